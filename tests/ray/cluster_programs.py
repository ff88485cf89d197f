"""What the tests of a cluster run as its driver: python -m tests.ray.cluster_programs NAME …"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import missing_shards
from pipeline.errors import ClusterError
from pipeline.labels.predict import ShardPredictor
from pipeline.params import ModelParams, PredictParams, Training
from pipeline.ray.map_shards import distributed_map
from pipeline.train.run import TrainJob
from pipeline.workflow.training import train_job
from tests.tiny import PLAIN, train_params

OWN = Path("/proc/self/cwd")  # another folder for each process, by one name


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
