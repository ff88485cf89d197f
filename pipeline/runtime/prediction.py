"""Predict or embed shards with Ray Data: one task a shard, a pool of actors with the network."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from pipeline.data.shards import Manifest
from pipeline.data.storage import StoredFolder
from pipeline.errors import SelftrainError
from pipeline.progress import progress, say
from pipeline.runtime.home import Home, at_home, blind_nodes, node_folder
from pipeline.runtime.ray_session import has_gpus, ray_session, unmet_demand

MAX_RESTARTS = 3
FOREVER = -1


class ShardWork(Protocol):
    """What is done with each shard of `folder` by its number: one shard in, one shard of `out`."""

    folder: Path
    out: Path | StoredFolder
    threads: int
    device: str

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
    driver's that no other stage writes to. A shard whose actor or node dies is done again
    elsewhere; an actor that has died four times ends the run.
    """
    works = [work for work, _ in tasks]
    todo = [(place, number) for place, (_, numbers) in enumerate(tasks) for number in numbers]
    if not todo:
        return
    total = sum(works[place].manifest.shards[number].rows for place, number in todo)
    fewest, most = (min(count, len(todo)) for count in actors)
    threads, device = works[0].threads, works[0].device
    with ray_session(most * threads), at_home(scratch) as home:
        wants_gpu = has_gpus() if device == "auto" else device == "cuda"
        gpus = gpus_per_actor if wants_gpu else 0.0
        _announce(works[0], home, gpus, title)
        mapped = _mapped(works, todo, home, (fewest, most), gpus)
        with progress(title, total) as advance:
            try:
                for row in mapped.iter_rows():
                    advance(int(row["rows"]))
            except Exception as error:
                raise _user_error(error) or error from None


def _mapped(
    works: list[ShardWork],
    todo: list[tuple[int, int]],
    home: Home,
    actors: tuple[int, int],
    gpus: float,
) -> Any:
    """The lazy data set of what the actors answer, a row a shard."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [{"work": place, "number": number} for place, number in todo]
    numbers = ray.data.from_items(rows, override_num_blocks=len(rows))
    with warnings.catch_warnings():
        # These limits have no named form. A node that has gone counts as alive for some 20 seconds,
        # in which every try fails: so tries are not counted. A shard that kills its actor ends the
        # run when that actor is not started again.
        warnings.simplefilter("ignore", ray.util.annotations.RayDeprecationWarning)
        return numbers.map_batches(
            PredictorActor,
            fn_constructor_args=(works, home),
            batch_size=1,
            num_cpus=works[0].threads,
            num_gpus=gpus,
            compute=ray.data.ActorPoolStrategy(min_size=actors[0], max_size=actors[1]),
            max_restarts=MAX_RESTARTS,
            max_task_retries=FOREVER,
        )


def _announce(work: ShardWork, home: Home, gpus: float, title: str) -> None:
    """Say what makes the work slow, or wait, before it begins."""
    if missing := unmet_demand({"CPU": work.threads, "GPU": gpus}):
        say(f"{title}: no node has {missing} for an actor; waiting until the cluster has one")
    if not _in_storage(work) and (blind := blind_nodes(home)):
        say(
            f"{title}: {', '.join(blind)} can't see {home.token_file.parent}; images and "
            "predictions travel through this machine (storage.url saves that)"
        )


class PredictorActor:
    """What Ray Data calls: a batch is one shard of one of the works, by their numbers.

    On a node that does not see the driver's files the models are copied there once, and images
    and what is made of them a shard at a time, unless they are in storage.
    """

    def __init__(self, works: Sequence[ShardWork], home: Home) -> None:
        self._places = [(work.folder, work.out) for work in works]
        self._through_home = None if home.here or _in_storage(works[0]) else home
        self._works = [work.fetched(home.folder) for work in works]

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """Work on the shards of the batch; returns their numbers of rows."""
        pairs = zip(batch["work"], batch["number"], strict=True)
        return {"rows": [self._done(int(place), int(number)) for place, number in pairs]}

    def _done(self, place: int, number: int) -> int:
        work, (images, out) = self._works[place], self._places[place]
        if self._through_home is None:
            return work(number)
        name = work.manifest.shards[number].file
        with tempfile.TemporaryDirectory(dir=node_folder()) as folder:
            work.folder, work.out = Path(folder) / "in", Path(folder) / "out"
            self._through_home.fetch(images / name, work.folder / name)
            rows = work(number)
            assert isinstance(out, Path)
            self._through_home.give(Path(folder) / "out" / name, out / name)
        return rows


def _in_storage(work: ShardWork) -> bool:
    """Whether images and predictions are read from and written to shared storage."""
    return isinstance(work.out, StoredFolder)


def _user_error(error: BaseException | None) -> SelftrainError | None:
    """The SelftrainError that an actor raised, however Ray has wrapped it."""
    while error is not None:
        if isinstance(error, SelftrainError):
            return error
        error = getattr(error, "cause", None) or error.__cause__
    return None
