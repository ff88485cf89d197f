"""What the tests of a cluster run as its driver: python -m tests.runtime.cluster_programs NAME …"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.data.derived import missing_shards
from pipeline.labels.predict import ShardPredictor
from pipeline.params import ModelParams, Training
from pipeline.runtime import home, prediction, training
from pipeline.train.run import TrainJob
from tests.tiny import PLAIN, train_params


def predictor_of(work: Path, out: Path) -> ShardPredictor:
    """The teacher of the tests; its many views make a shard take a good part of a second."""
    return ShardPredictor(
        models=(work / "model",),
        folder=work / "prepared" / "unlabeled",
        out=out,
        views="jitter",
        jitter_views=40,
        batch_size=16,
        seed=3,
    )


def predict(work: str, out: str, sight: str) -> None:
    """Predict what is left to do; sight "blind": as if no node saw the driver's files."""
    if sight == "blind":
        prediction.at_home = _unseen  # type: ignore[attr-defined]
    predictor = predictor_of(Path(work), Path(out))
    todo = missing_shards(predictor.folder, Path(out))
    scratch = Path(out).parent
    prediction.distributed_map(
        (predictor, todo), actors=(1, 2), gpus_per_actor=1.0, scratch=scratch, title="predict"
    )
    print(json.dumps({"predicted": len(todo)}))


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
        prediction.distributed_map(
            (predictor, [0, 1, 2]),
            actors=(1, 2),
            gpus_per_actor=1.0,
            scratch=Path(out).parent,
            title="predict",
        )
    except Exception as error:
        print(json.dumps({"error": str(error)}))


def train(work: str, scratch: str, sight: str) -> None:
    """Train with two workers, or with one where there are no two any more."""
    if sight == "blind":
        training.at_home = _unseen  # type: ignore[attr-defined]
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
    history = training.distributed_train(job, Path(scratch), tracker, "train")
    print(json.dumps({"last": history[-1].step, "points": len(history)}))


class _NoTracker:
    def metrics(self, values: dict[str, float], step: int) -> None:
        """Nothing is tracked here."""


@contextmanager
def _unseen(folder: Path) -> Iterator[home.Home]:
    """at_home, but the file that tells a node that it sees the driver's files is gone."""
    with home.at_home(folder) as made:
        made.token_file.unlink()
        yield made


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
