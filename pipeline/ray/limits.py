"""What Ray is held to on a large run: each limit by name, with its reason. All others are Ray's."""

from __future__ import annotations

FOREVER = -1

# A pass has a task for each shard or slice, some 32,000 of 130 million images.
ITEMS_PER_WORKER = 4  # in Ray's hands: enough that none waits for the one whose turn it is, and few
# enough that the driver does not remember every task of a pass
TASKS_PER_WORKER = 16  # of a pass over shards that one thread hands out, some 2 ms each: several
# shards are one task where there are more, and none waits long for the last
TASK_RETRIES = 10  # of a task whose process or node is lost: one that ends it ends the run
# of an actor's: a node that has gone counts as alive for some 20 s, in which tries fail
ITEM_RETRIES = FOREVER
ACTOR_RESTARTS = 3  # a shard that kills its actor ends the pass then, instead of going round
GROUP_FAILURES = 2  # of a group of training workers, besides one for each size that it may have
RESIZE_CHECKPOINTS = 4  # a larger group starts from the last state: at most a quarter is lost

# Images go from storage to the worker; through the object store only numbers of shards, parameters,
# models where a node does not see them, and small copies of held-out images: 26 MB of 100,000.
OBJECT_STORE_BYTES = 256 << 20
SPARE_CPUS = 1  # for Ray's own tasks: workers that hold every CPU would starve them
PROBE_SECONDS = 60.0  # until a node that does not say whether it sees a folder is left out

# What a session needs of each limit of the system (`ulimit` letter, amount), and how much more for
# each CPU: measured with 1 to 3 of them.
SYSTEM = {
    "NOFILE": ("n", 128, 8),
    "NPROC": ("u", 256, 16),
    "FSIZE": ("f", OBJECT_STORE_BYTES, 0),
    "AS": ("v", 8 << 30, 0),
}
