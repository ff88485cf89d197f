"""Passes with Ray: Ray Data's actors, which hold a network, predict or embed shards; tasks prepare
and select."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from pipeline.data.shards import Manifest
from pipeline.data.storage import StoredFolder
from pipeline.errors import ClusterError, SelftrainError
from pipeline.mapping import MapItems
from pipeline.progress import progress
from pipeline.ray.limits import (
    ACTOR_RESTARTS,
    ITEM_RETRIES,
    ITEMS_PER_WORKER,
    TASK_RETRIES,
    TASKS_PER_WORKER,
)
from pipeline.ray.nodes import (
    SharedFolder,
    blind,
    check_own_cpu,
    has_gpus,
    own_address,
    say_if_waiting,
    shared_folder,
)
from pipeline.ray.session import ray_session

Files = dict[Path, dict[str, bytes]]


class ShardWork(Protocol):
    """What is done with each shard of `folder` by its number: one shard in, one shard of `out`."""

    folder: Path
    out: Path | StoredFolder

    @property
    def threads(self) -> int:
        """Of the CPU."""

    @property
    def device(self) -> str:
        """auto, cpu or cuda."""

    @property
    def manifest(self) -> Manifest:
        """What there is to work on."""

    def __call__(self, number: int) -> int:
        """Do it; returns the number of rows."""

    def fetched(self, fetch: Callable[[Path], Path]) -> Self:
        """The same with each folder that all shards need where `fetch` says it lies here."""


def distributed_map(
    *tasks: tuple[ShardWork, list[int]],
    actors: tuple[int, int],
    gpus_per_actor: float,
    scratch: Path,
    title: str,
) -> None:
    """Do each work on the shards of these numbers with Ray actors, as many at once as `actors`.

    All works are of the same threads and device. actors: (fewest, most); gpus_per_actor: of each
    where the device is a GPU, a fraction where several share one; scratch: a folder of the
    driver's, which every node has to see unless images and outputs are in storage. A shard whose
    actor or node dies is done again elsewhere; an actor that has died four times ends the run.
    """
    works = [work for work, _ in tasks]
    todo = [
        {"work": place, "number": number}
        for place, (_, numbers) in enumerate(tasks)
        for number in numbers
    ]
    if not todo:
        return
    total = sum(works[item["work"]].manifest.shards[item["number"]].rows for item in todo)
    fewest, most = (min(count, len(todo)) for count in actors)
    cpus, device = works[0].threads, works[0].device
    stored = isinstance(works[0].out, StoredFolder)
    seen: AbstractContextManager[SharedFolder | None] = (
        nullcontext() if stored else shared_folder(scratch, "set storage.url")
    )
    with ray_session(most * cpus, title), seen as shared:
        import ray.data

        models = ray.put(packed(works)) if stored and "RAY_ADDRESS" in os.environ else None
        wants_gpu = has_gpus() if device == "auto" else device == "cuda"
        gpus = gpus_per_actor if wants_gpu else 0.0
        say_if_waiting(title, "an actor", {"CPU": cpus, "GPU": gpus})
        made = _map_batches(
            todo,
            PredictorActor,
            blocks=min(len(todo), TASKS_PER_WORKER * most),
            fn_constructor_args=(works, shared, models),
            num_cpus=cpus,
            num_gpus=gpus,
            compute=ray.data.ActorPoolStrategy(min_size=fewest, max_size=most),
            max_restarts=ACTOR_RESTARTS,
            max_task_retries=ITEM_RETRIES,
        )
        with progress(title, total) as advance:
            for rows in made:
                advance(rows)


class PredictorActor:
    """What Ray Data calls: a batch is one shard of one of the works, by their numbers.

    models: a reference to the files of the works' models, for nodes that need not see the
    driver's folder; None where they do.
    """

    def __init__(
        self, works: Sequence[ShardWork], shared: SharedFolder | None, models: Any
    ) -> None:
        self._works, self._shared = works, shared
        if models is not None:
            import ray

            self._copies = tempfile.TemporaryDirectory(prefix="selftrain-")
            places = unpacked(ray.get(models), Path(self._copies.name))
            self._works = [work.fetched(places.__getitem__) for work in works]

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Work on the shard; returns its number of rows."""
        return _as_value(lambda: self._done(int(batch["work"][0]), int(batch["number"][0])))

    def _done(self, place: int, number: int) -> int:
        if self._shared is not None:
            self._shared.check()
        return self._works[place](number)


def packed(works: Sequence[ShardWork]) -> Files:
    """The files of each folder that all shards of the works need."""
    files: Files = {}

    def pack(folder: Path) -> Path:
        inner = (path for path in folder.rglob("*") if path.is_file())
        files[folder] = {str(path.relative_to(folder)): path.read_bytes() for path in inner}
        return folder

    for work in works:
        work.fetched(pack)
    return files


def unpacked(files: Files, into: Path) -> dict[Path, Path]:
    """Write packed files to folders in `into`; returns which of them stands for which."""
    places = {folder: into / str(number) / folder.name for number, folder in enumerate(files)}
    for folder, place in places.items():
        for name, data in files[folder].items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(data)
    return places


@contextmanager
def in_ray_tasks(
    workers: int, *, stored: bool, title: str, reads: str | None = None, grouped: bool = False
) -> Iterator[MapItems]:
    """What does a task for each item in a Ray task, `workers` at once.

    grouped: of a sequence several items are one task where there are over
    TASKS_PER_WORKER for each worker.
    stored: whether what the tasks read and write lies in storage; else they stay on this machine,
    whose folders it is in. reads: a path that they read besides, which every node has to see.
    An item whose worker or node is lost is done again elsewhere, as is one whose result went with
    it; one that is lost time and again ends the run. Raises ClusterError where there is no room.
    """

    def map_items(task: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = ray.get_runtime_context().get_node_id()
        strategy = "DEFAULT" if stored else NodeAffinitySchedulingStrategy(here, soft=False)
        shared, waiting, running = ray.put((task, _whole(reads))), deque[Any](), list[Any]()
        work: Any = ray.remote(_done_by).options(
            num_cpus=1, max_retries=TASK_RETRIES, scheduling_strategy=strategy
        )
        rest, size = iter(items), 1
        if grouped and isinstance(items, Sequence):
            size = max(1, len(items) // (TASKS_PER_WORKER * workers))
        while some := list(islice(rest, size)):
            if len(running) == workers:  # Ray would do as many as there are CPUs
                _, running = ray.wait(running)
            running.append(work.remote(shared, some))
            waiting.append(running[-1])
            if len(waiting) >= ITEMS_PER_WORKER * workers:
                yield from _value(ray.get(waiting.popleft()))
        while waiting:
            yield from _value(ray.get(waiting.popleft()))

    with ray_session(workers, title):
        if stored:
            say_if_waiting(title, "a task", {"CPU": 1})
        else:
            check_own_cpu("set storage.url, or run.prepare_workers and run.select_workers to 0")
        yield map_items


def _whole(path: str | None) -> Path | None:
    """A path, or of one that is a pattern what it begins with; None for an address."""
    if path is None or "://" in path:
        return None
    return next(each for each in (Path(path), *Path(path).absolute().parents) if each.exists())


def _done_by(task_and_path: tuple[Callable[[Any], Any], Path | None], items: list[Any]) -> Any:
    """What a task makes of some items, or a user's error, which Ray would wrap into one of its
    own."""
    task, path = task_and_path
    if path is not None and not path.exists():  # whatever is in it would be missing
        return ClusterError(
            blind([own_address()], path, "put it where all nodes see it under this name")
        )
    try:
        return [task(item) for item in items]
    except SelftrainError as error:
        return error


def _value(made: Any) -> Any:
    if isinstance(made, SelftrainError):
        raise made
    return made


def _map_batches(
    items: list[dict[str, Any]], work: Any, *, blocks: int, **options: Any
) -> Iterator[Any]:
    """The value that Ray Data's `map_batches` makes of each item, in so many tasks; see
    _as_value."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    with warnings.catch_warnings():
        # Limits of tries and the node have no named form.
        warnings.simplefilter("ignore", ray.util.annotations.RayDeprecationWarning)
        mapped = ray.data.from_items(items, override_num_blocks=blocks).map_batches(
            work, batch_size=1, **options
        )
    for row in mapped.iter_rows():
        if isinstance(row["value"], SelftrainError):
            raise row["value"]
        yield row["value"]


def _as_value(make: Callable[[], Any]) -> dict[str, Any]:
    """The batch of one row that holds what `make` returns, or a user's error, which Ray Data would
    lose in one of its own."""
    value = np.empty(1, object)
    try:
        value[0] = make()
    except SelftrainError as error:
        value[0] = error
    return {"value": value}
