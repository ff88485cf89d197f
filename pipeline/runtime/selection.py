"""Select among predictions with Ray Data: tasks over runs of shards, wherever there is room."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from pipeline.errors import SelftrainError
from pipeline.labels.pseudo_label import MapShards, in_threads
from pipeline.progress import progress
from pipeline.runtime.ray_session import ray_session

TASKS_PER_WORKER = 8  # so that none is left alone with much at the end
MOST_SHARDS = 64  # of one task: what it makes is held until it ends


@contextmanager
def shard_mapper(workers: int, threads: int, *, stored: bool) -> Iterator[MapShards]:
    """Who works on the shards: `threads` of this process, or `workers` Ray tasks at once.

    stored: whether predictions and pseudo-labels lie in storage; else the tasks stay on this
    machine, whose folders they are in.
    """
    if not workers:
        yield in_threads(threads)
        return
    with ray_session(workers):

        def map_shards(task: Callable[[int], Any], count: int) -> Iterator[Any]:
            return _ray_map(task, count, workers, stored)

        yield map_shards


def shown(over: MapShards, rows: Sequence[int], title: str) -> MapShards:
    """`over` with a progress of each pass over the shards, which hold so many images each."""

    def map_shards(task: Callable[[int], Any], count: int) -> Iterator[Any]:
        with progress(title, sum(rows[:count])) as advance:
            for number, made in enumerate(over(task, count)):
                advance(rows[number])
                yield made

    return map_shards


def _ray_map(task: Callable[[int], Any], count: int, workers: int, stored: bool) -> Iterator[Any]:
    """What `task` makes of each shard, in order."""
    import ray.data

    if not count:
        return
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    runs = np.array_split(np.arange(count), _num_tasks(count, workers))
    numbers = ray.data.from_items(
        [{"first": int(run[0]), "last": int(run[-1])} for run in runs],
        override_num_blocks=len(runs),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ray.util.annotations.RayDeprecationWarning)
        made = numbers.map_batches(
            _Run(task),
            batch_size=1,
            num_cpus=1,
            compute=ray.data.TaskPoolStrategy(size=workers),
            **({} if stored else _here()),
        )
    for row in made.iter_rows():
        if isinstance(row["made"], SelftrainError):
            raise row["made"]
        yield from row["made"]


def _num_tasks(count: int, workers: int) -> int:
    """Into how many tasks so many shards are cut."""
    return min(count, max(workers * TASKS_PER_WORKER, -(-count // MOST_SHARDS)))


def _here() -> dict[str, Any]:
    """The options of a Ray task that stays on the driver's machine."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = ray.get_runtime_context().get_node_id()
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}


class _Run:
    """What Ray Data calls: a batch is the numbers of a run of shards."""

    def __init__(self, task: Callable[[int], Any]) -> None:
        self._task = task

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """What the task makes of each shard of the run, or a user's error, as one value."""
        (first,), (last,) = batch["first"], batch["last"]
        made = np.empty(1, object)
        try:
            made[0] = [self._task(number) for number in range(int(first), int(last) + 1)]
        except SelftrainError as error:
            made[0] = error
        return {"made": made}
