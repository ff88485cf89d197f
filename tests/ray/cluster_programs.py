"""What the tests of a cluster run as its driver: python -m tests.ray.cluster_programs NAME …"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.data.preparation import prepare as preparation
from pipeline.data.sources import open_source
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import missing_shards
from pipeline.errors import ClusterError
from pipeline.labels.predict import ShardPredictor
from pipeline.mapping import MapItems
from pipeline.models.embed import ShardEmbedder
from pipeline.params import ModelParams, PredictParams, Training
from pipeline.ray.limits import ITEMS_PER_WORKER
from pipeline.ray.map_shards import distributed_map, in_ray_tasks
from pipeline.ray.nodes import own_address
from pipeline.tasks import open_task
from pipeline.train.run import TrainJob
from pipeline.workflow.training import train_job
from tests.data.helpers import data_params
from tests.tiny import PLAIN, train_params

OWN = Path("/proc/self/cwd")  # another folder for each process, by one name
LARGE = 1 << 20  # bytes
FREE = 3  # items that pass a gate before it closes


def predictor_of(work: Path, out: Path | StoredFolder) -> ShardPredictor:
    """The teacher of the tests; its many views make a shard take a good part of a second."""
    return ShardPredictor(
        models=(work / "model",),
        folder=work / "prepared" / "unlabeled",
        out=out,
        params=PredictParams(
            views="jitter", jitter_views=40, batch_size=16, device="cpu", precision="float32"
        ),
        seed=3,
    )


def mapped(predictor: ShardPredictor, todo: list[int], scratch: Path) -> None:
    """Predict these shards."""
    distributed_map(
        (predictor, todo), actors=(1, 2), gpus_per_actor=1.0, scratch=scratch, title="predict"
    )


def predict(work: str, out: str) -> None:
    """Predict what is left to do."""
    predictor = predictor_of(Path(work), Path(out))
    todo = missing_shards(predictor.folder, Path(out))
    mapped(predictor, todo, Path(out).parent)
    print(json.dumps({"predicted": len(todo)}))


def refused(work: str, scratch: str) -> None:
    """Predict and train in a folder that no node sees: what is said."""
    os.chdir(scratch)
    said = []
    try:
        mapped(predictor_of(Path(work), OWN / "out"), [0], OWN)
    except ClusterError as error:
        said.append(str(error))
    try:
        train(work, str(OWN))
    except ClusterError as error:
        said.append(str(error))
    print(json.dumps(said))


def from_storage(work: str, url: str) -> None:
    """Predict to storage by a model that no node sees; the images' manifest is here alone too."""
    os.chdir(work)
    predictor = predictor_of(OWN, StoredFolder(url))
    mapped(predictor, list(range(len(predictor.manifest.shards))), OWN)
    print(json.dumps({"predicted": len(predictor.manifest.shards)}))


def pass_gate(gate: Path) -> None:
    """Note in a folder that this node begins an item; where it is not one of the first, wait for
    the node named there as joined to begin one too."""
    here = own_address()
    gate.mkdir(parents=True, exist_ok=True)
    (gate / f"begun-{here}-{uuid.uuid4().hex}").touch()
    if len(list(gate.glob("begun-*"))) <= FREE:
        return
    (gate / f"waits-{here}").touch()
    while not any(
        list(gate.glob(f"begun-{path.name.removeprefix('joined-')}-*"))
        for path in gate.glob("joined-*")
    ):
        time.sleep(0.02)


@dataclass(frozen=True)
class Gated:
    """A task of prepare behind the gate of its name."""

    task: Callable[[Any], Any]
    gates: Path

    def __call__(self, item: Any) -> Any:
        """Do it once the gate is open."""
        pass_gate(self.gates / type(self.task).__name__)
        return self.task(item)


class GatedEmbedder(ShardEmbedder):
    """An embedder behind a gate beside its shards."""

    def __call__(self, number: int) -> int:
        """Embed once the gate is open."""
        assert isinstance(self.out, Path)
        pass_gate(self.out.parent / "gate")
        return super().__call__(number)


def prepare(source: str, work: str) -> None:
    """Prepare a folder of images in two tasks at once, behind gates in `work`."""
    with in_ray_tasks(2, stored=True, title="prepare", reads=source) as map_items:

        def gated(task: Callable[[Any], Any], items: Any) -> Any:
            slow = type(task).__name__ in ("SliceIngest", "SideShards")
            return map_items(Gated(task, Path(work) / "gates") if slow else task, items)

        prepared(Path(source), Path(work), gated)
    print(json.dumps("prepared"))


def prepared(source: Path, work: Path, map_items: MapItems | None) -> None:
    """`work`/prepared of a folder of images, its shards in storage."""
    storage = StoredFolder((work / "storage").as_uri())
    (work / "scratch").mkdir(parents=True)
    preparation.prepare(
        open_source("folder", str(source), seed=0),
        work / "prepared",
        data_params(labels=100),
        task=open_task("classification"),
        seed=0,
        scratch=work / "scratch",
        place_of=storage.__truediv__,
        map_items=map_items,
    )


def embed(work: str, out: str) -> None:
    """Embed the images of `work` by up to two actors, behind a gate."""
    images = Path(work) / "prepared" / "unlabeled"
    embedder = GatedEmbedder((Path(work) / "model",), images, Path(out), batch_size=8)
    numbers = list(range(len(embedder.manifest.shards)))
    scratch = Path(out).parent
    distributed_map(
        (embedder, numbers), actors=(1, 2), gpus_per_actor=1.0, scratch=scratch, title="embed"
    )
    print(json.dumps({"embedded": len(numbers)}))


def large(work: Path, number: int) -> bytes:
    """A result that stays on its node, which it names, until it is asked for."""
    (work / f"made-{number}-{own_address()}").touch()
    return bytes([number]) * LARGE


def results(work: str) -> None:
    """Get large results, but for the first one once the test says so."""
    with in_ray_tasks(2, stored=True, title="results") as map_items:
        made = map_items(partial(large, Path(work)), range(ITEMS_PER_WORKER * 2))
        found = [next(made)]
        while not (Path(work) / "go").exists():
            time.sleep(0.02)
        found += made
    print(json.dumps([each[0] for each in found if len(each) == LARGE]))


def deadly(number: int) -> int:
    """End the process."""
    os._exit(number)


def ended() -> None:
    """Do a task that ends every process that takes it, and one that has nowhere to be: what is
    said."""
    said = []
    for stored in (True, False):
        try:
            with in_ray_tasks(1, stored=stored, title="deadly") as map_items:
                list(map_items(deadly, [1]))
        except ClusterError as error:
            said.append(str(error))
    print(json.dumps(said))


class Poisoned(ShardPredictor):
    """A predictor whose process dies of the second shard, whoever takes it."""

    def __call__(self, number: int) -> int:
        """Predict shard `number`, or die."""
        if number == 1:
            os._exit(1)
        return super().__call__(number)


def poisoned(work: str, out: str) -> None:
    """Predict shards of which one ends every process that takes it."""
    predictor = Poisoned(**vars(predictor_of(Path(work), Path(out))))
    try:
        mapped(predictor, [0, 1, 2], Path(out).parent)
    except Exception as error:
        print(json.dumps({"error": str(error)}))


def train(work: str, scratch: str) -> None:
    """Train with two workers, or with one where there are no two any more."""
    params = train_params(steps=400, workers=2, min_workers=1, log_every=5)
    job = TrainJob(
        prepared=Path(work) / "prepared",
        pseudo_labels=None,
        model=Path(scratch) / "model",
        state=Path(scratch),
        generation="0",
        teacher=None,
        seed=3,
        training=Training(model=ModelParams(width=4), augment=PLAIN, train=params),
        checkpoint_minutes=0.005,
    )
    tracker: Any = _NoTracker()
    history = train_job(job, tracker, "train")
    print(json.dumps({"last": history[-1].step, "points": len(history)}))


class _NoTracker:
    def metrics(self, values: dict[str, float], step: int) -> None:
        """Nothing is tracked here."""


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
