"""What training over workers raises, and how it ends where the driver is asked to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.params import ModelParams, Training
from pipeline.ray import training
from pipeline.ray.training import STOP, distributed_train
from pipeline.train.run import TrainJob
from pipeline.train.state import STATE
from tests.tiny import PLAIN, prepared_stripes, train_params


class Trainer:
    """In Ray's place: `work` is what its workers do."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.fit = work


def job_of(folder: Path, **changes: Any) -> TrainJob:
    (folder / "state").mkdir()
    return TrainJob(
        prepared=folder / "prepared",
        pseudo_labels=None,
        model=folder / "model",
        state=folder / "state",
        generation="0",
        teacher=None,
        seed=3,
        training=Training(
            model=ModelParams(width=4), augment=PLAIN, train=train_params(steps=4, **changes)
        ),
    )


def test_what_the_trainer_raises_comes_out_and_an_earlier_stop_is_forgotten(
    tmp_path: Path,
) -> None:
    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        training._fit(Trainer(fail), tmp_path, lambda: False)
    (tmp_path / STOP).touch()
    left = list[bool]()
    training._fit(Trainer(lambda: left.append((tmp_path / STOP).exists())), tmp_path, lambda: False)
    assert left == [False]


def test_the_driver_waits_until_rank_0_has_saved(tmp_path: Path) -> None:
    (tmp_path / STATE).touch()  # of before it was asked
    stop, saved = threading.Event(), threading.Event()

    def work() -> None:
        stop.set()
        while not (tmp_path / STOP).exists():
            threading.Event().wait(0.01)
        saved.set()
        (tmp_path / STATE).write_text("anew")
        threading.Event().wait()

    with pytest.raises(KeyboardInterrupt):
        training._fit(Trainer(work), tmp_path, stop.is_set)
    assert saved.is_set()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore")  # of Ray, about itself
def test_a_users_mistake_in_a_worker_comes_out_as_itself(tmp_path: Path) -> None:
    (shard, *_) = (prepared_stripes(tmp_path / "prepared") / "labeled").glob("*.parquet")
    shard.write_bytes(b"")
    job = job_of(tmp_path, workers=2)
    with pytest.raises(DataError, match=shard.name):
        distributed_train(job, tmp_path / "state" / "history.jsonl", "train")
