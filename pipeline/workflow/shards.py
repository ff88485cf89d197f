"""What goes through images shard by shard: in the stage's own process, or in Ray's actors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.data.stored_shards import missing_shards
from pipeline.progress import progress

if TYPE_CHECKING:
    from pipeline.ray.map_shards import ShardWork
    from pipeline.workflow.stage import Run, Stage


def map_shards(stage: Stage, run: Run, *works: ShardWork, images: bool = True) -> None:
    """Do each work on those of its shards that are missing, `run.actors` at once.

    All works are of the same threads and device. images: whether they look at images; what reads
    stored features takes seconds, and is done here. Raises as Ray does where a shard fails again
    and again.
    """
    tasks = [(work, missing_shards(work.folder, work.out)) for work in works]
    actors = stage.params.run.actor_range
    if images and any(actors):
        from pipeline.ray.map_shards import distributed_map

        distributed_map(
            *tasks,
            actors=actors,
            gpus_per_actor=stage.params.run.gpus_per_actor,
            scratch=run.scratch,
            title=stage.title,
        )
        return
    rows = sum(work.manifest.shards[number].rows for work, numbers in tasks for number in numbers)
    with progress(stage.title, rows) as advance:
        for work, numbers in tasks:
            for number in numbers:
                advance(work(number))
