"""Training on images that do not fit the memory they are allowed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.data.shards import read_manifest
from pipeline.data.tensors import GIB, load_images
from pipeline.models.checkpoint import load_checkpoint
from pipeline.models.spec import model_digest
from pipeline.params import ModelParams, OnlineParams, Training
from pipeline.train.batch import step_batch
from pipeline.train.inputs import training_data
from pipeline.train.run import TrainJob, train_model
from pipeline.train.worker import Worker
from tests.data.helpers import ids
from tests.tiny import (
    PLAIN,
    SIDE,
    accuracy,
    prepared_stripes,
    save_model,
    stripe_data,
    train_params,
)
from tests.train.test_inputs import write_pseudo_labels

FEW = 128 * SIDE * SIDE / GIB  # room for 128 images: less than there are
ENOUGH = 1.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_streamed(tmp_path_factory.mktemp("made"))


def make_streamed(folder: Path) -> Path:
    """640 images, 220 of them with a label, in shards of 40; two in three pseudo-labels count."""
    prepared = prepared_stripes(
        folder / "prepared", 640, labels=220, images_per_shard=40, validation_fraction=0.2
    )
    repeats = {name: place % 3 for place, name in enumerate(ids(prepared, "unlabeled"))}
    write_pseudo_labels(prepared, folder / "chosen", repeats)
    save_model(folder / "teacher")
    return folder


def job_of(made: Path, out: Path, *, teach: bool = True, **train: Any) -> TrainJob:
    values = {"steps": 40, "learning_rate": 0.03, "cache_gib": FEW} | train
    return TrainJob(
        prepared=made / "prepared",
        pseudo_labels=made / "chosen" if teach else None,
        model=out / "model",
        state=out / "state",
        generation="1",
        teacher=made / "teacher",
        seed=3,
        training=Training(model=ModelParams(width=4), augment=PLAIN, train=train_params(**values)),
    )


def run(job: TrainJob, worker: Worker | None = None) -> str:
    """Train; the digest of the model, "" where there is none."""
    train_model(job, worker or Worker(), lambda step, values: None)
    return model_digest(job.model) if job.model.exists() else ""


def shares(prepared: Path) -> list[float]:
    """Of the classes among the labelled images."""
    counts = load_images(prepared / "labeled").targets.bincount()
    shares: list[float] = (counts.float() / counts.sum()).tolist()
    return shares


def test_what_does_not_fit_is_streamed_and_what_does_is_not(made: Path) -> None:
    prepared = made / "prepared"
    for part in ("labeled", "unlabeled"):
        assert read_manifest(prepared / part).rows > 128
    streamed = training_data(prepared, made / "chosen", threads=1, cache_gib=FEW)
    assert streamed.labeled_stream is not None
    assert streamed.unlabeled_stream is not None
    assert streamed.class_shares(torch.device("cpu")).tolist() == shares(prepared)
    cached = training_data(prepared, made / "chosen", threads=1, cache_gib=ENOUGH)
    assert cached.labeled_stream is cached.unlabeled_stream is None
    assert cached.unlabeled_rows is not None
    assert len(streamed.unlabeled_stream) == len(cached.unlabeled_rows)


def test_a_streamed_run_learns_and_repeats_to_the_byte(made: Path, tmp_path: Path) -> None:
    first = run(job_of(made, tmp_path / "a", steps=80))
    assert first == run(job_of(made, tmp_path / "b", steps=80))
    checkpoint = load_checkpoint(tmp_path / "a" / "model")
    data = stripe_data(3, mean=tuple(checkpoint.spec.mean), std=tuple(checkpoint.spec.std))
    weights = checkpoint.network.state_dict()
    assert accuracy(checkpoint.network, weights, data) >= 0.9


@pytest.mark.parametrize("stop_after", [1, 17, 33])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    made: Path, tmp_path: Path, stop_after: int
) -> None:
    whole = run(job_of(made, tmp_path / "whole"))
    job = job_of(made, tmp_path / "stopped")
    asked = iter(range(1, 1000))
    with pytest.raises(KeyboardInterrupt):
        run(job, Worker(stop=lambda: next(asked) == stop_after))
    assert run(job) == whole


@pytest.mark.parametrize("world_size", [2, 3])
def test_workers_share_the_batches_of_one(made: Path, world_size: int) -> None:
    train = train_params(
        batch_size=6 * world_size, unlabeled_augment="none", labeled_augment="none"
    )

    def batches(rank: int, size: int) -> list[tuple[torch.Tensor, ...]]:
        data = training_data(made / "prepared", made / "chosen", threads=1, cache_gib=FEW)
        seen: list[tuple[torch.Tensor, ...]] = []
        for step in (0, 1, 9, 30):
            batch = step_batch(data, train, PLAIN, 3, step, Worker(rank, size))
            assert batch.noised is not None
            assert batch.targets is not None
            labeled = batch.labeled
            seen.append((labeled.images, labeled.labels, batch.noised, batch.targets))
        return seen

    alone = batches(0, 1)
    for rank in range(world_size):
        for whole, part in zip(alone, batches(rank, world_size), strict=True):
            for all_of_it, some in zip(whole, part, strict=True):
                assert torch.equal(all_of_it[rank::world_size], some)


def test_a_streamed_teacher_distils_and_teaches_online(made: Path, tmp_path: Path) -> None:
    train: dict[str, Any] = {
        "distillation_weight": 0.5,
        "online": OnlineParams(confidence_threshold=0.4),
    }
    digests = [run(job_of(made, tmp_path / name, **train)) for name in ("a", "b")]
    assert digests[0] == digests[1]
    other = run(job_of(made, tmp_path / "c", distillation_weight=0.5))
    assert other != digests[0]


def test_a_streamed_image_is_contrasted_with_itself(made: Path) -> None:
    data = training_data(made / "prepared", made / "chosen", threads=1, cache_gib=FEW)
    train = train_params(contrastive_weight=1.0)
    for online in (False, True):
        batch = step_batch(data, train, PLAIN, 3, 5, Worker(), online=online)
        assert batch.noised is not None
        assert batch.second is not None
        assert torch.equal(batch.second, batch.noised)


def test_distilled_targets_are_those_of_the_images_they_stand_beside(made: Path) -> None:
    data = training_data(made / "prepared", None, threads=1, cache_gib=FEW)
    taught = torch.eye(3)[load_images(made / "prepared" / "labeled").targets]
    train = train_params(batch_size=30)
    batch = step_batch(replace(data, taught=taught), train, PLAIN, 3, 5, Worker())
    assert batch.labeled.taught is not None
    assert torch.equal(batch.labeled.taught.argmax(dim=1), batch.labeled.labels)
