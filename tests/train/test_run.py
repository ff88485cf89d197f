import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.data.tensors import load_images
from pipeline.errors import ParameterError
from pipeline.evaluate.views import predict
from pipeline.models.checkpoint import load_checkpoint, network_of
from pipeline.models.packaged import read_packaged
from pipeline.models.pretrained import normalization
from pipeline.models.spec import model_digest
from pipeline.params import ModelParams, Training, TransferParams
from pipeline.tasks.classification import TASK
from pipeline.tasks.metrics import PRIOR_DEVIATION, negative_log_likelihood
from pipeline.train.run import TrainJob, calibrated, train_model
from pipeline.train.worker import Worker
from tests.tiny import (
    PLAIN,
    prepared_stripes,
    save_model,
    stripe_data,
    tiny_spec,
    train_params,
)


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    save_model(tmp_path / "teacher")
    return TrainJob(
        prepared=prepared_stripes(tmp_path / "prepared"),
        pseudo_labels=None,
        model=tmp_path / "model",
        state=tmp_path / "state",
        generation="2",
        teacher=tmp_path / "teacher",
        seed=3,
        training=Training(
            model=ModelParams(width=4, dropout_rate=0.1),
            augment=PLAIN,
            train=train_params(steps=60, learning_rate=0.03),
        ),
    )


def ignore(step: int, values: dict[str, float]) -> None:
    """A log that nobody reads."""


def test_a_job_leaves_a_model_that_knows_its_classes(job: TrainJob, tmp_path: Path) -> None:
    steps: list[int] = []
    train_model(job, Worker(), lambda step, values: steps.append(step))
    assert max(steps) == 60
    checkpoint = load_checkpoint(job.model)
    spec = checkpoint.spec
    assert (spec.classes, spec.image_size, spec.channels) == (["left", "middle", "right"], 8, 1)
    assert (spec.generation, spec.teacher) == ("2", model_digest(tmp_path / "teacher"))
    assert spec.network == job.training.model.network  # every size that a student may grow from
    test = load_images(job.prepared / "test")
    log_probs = predict(checkpoint.network, test.images, TASK, mean=spec.mean, std=spec.std)
    assert (log_probs.argmax(axis=1) == test.targets.numpy()).mean() >= 0.8


def test_the_same_job_gives_the_same_bytes_and_another_seed_others(job: TrainJob) -> None:
    jobs = [
        replace(job, model=job.model / str(number), state=job.state / str(number), seed=seed)
        for number, seed in enumerate((3, 3, 4))
    ]
    for one in jobs:
        train_model(one, Worker(), ignore)
    assert model_digest(jobs[0].model) == model_digest(jobs[1].model)
    assert model_digest(jobs[0].model) != model_digest(jobs[2].model)


def test_only_rank_0_writes_the_model(job: TrainJob) -> None:
    train_model(job, Worker(rank=1, world_size=2), ignore)
    assert not job.model.exists()


def test_without_validation_images_nothing_is_calibrated(job: TrainJob) -> None:
    prepared_stripes(job.prepared, validation_fraction=0.0)
    train_model(job, Worker(), ignore)
    assert load_checkpoint(job.model).spec.temperature == 1.0


def test_the_temperature_suits_the_validation_images() -> None:
    data = stripe_data(30)
    data = replace(data, validation_images=data.images, validation_labels=data.labels)
    spec = tiny_spec()
    network = network_of(spec, seed=1).eval()
    temperature = calibrated(network, data, spec).temperature

    def loss(temperature: float) -> float:
        log_probs = predict(
            network, data.images, TASK, mean=spec.mean, std=spec.std, temperature=temperature
        )
        prior = 0.5 * (math.log(temperature) / PRIOR_DEVIATION) ** 2
        return negative_log_likelihood(log_probs, np.asarray(data.labels)) * 30 + prior

    others = [loss(temperature * factor) for factor in (0.8, 0.95, 1.05, 1.25)]
    assert temperature != 1.0
    assert loss(temperature) < min(loss(1.0), *others)


def transferred(job: TrainJob, source: Path, **transfer: Any) -> TrainJob:
    section = TransferParams(source=str(source), **transfer)
    training = job.training.model_copy(update={"transfer": section})
    return replace(job, source=source, training=training)


def test_a_student_starts_from_its_source_and_sees_as_it_did(job: TrainJob, tmp_path: Path) -> None:
    spec = save_model(tmp_path / "source", seed=9, mean=[0.4], std=[0.2])
    job = transferred(job, tmp_path / "source", frozen_stages=4)
    train_model(job, Worker(), ignore)
    trained = load_checkpoint(job.model)
    assert (trained.spec.mean, trained.spec.std) == ([0.4], [0.2])
    source, network = network_of(spec, seed=9).state_dict(), trained.network.state_dict()
    moved = {key for key, value in source.items() if not torch.equal(value, network[key])}
    assert moved == {"classifier.weight", "classifier.bias"}


def test_full_transfer_begins_at_the_source_s_own_answers(job: TrainJob, tmp_path: Path) -> None:
    spec = save_model(tmp_path / "source", seed=9)
    source = network_of(spec, seed=9).state_dict()
    still = {"train": train_params(steps=1, learning_rate=1e-12, ema_decay=0.0)}
    job = transferred(job, tmp_path / "source")
    job = replace(job, training=job.training.model_copy(update=still))
    train_model(job, Worker(), ignore)
    network = load_checkpoint(job.model).network
    for key, value in network.named_parameters():
        torch.testing.assert_close(value.detach(), source[key])


@pytest.mark.slow
def test_a_job_from_packaged_weights_keeps_their_statistics_and_enlarges(job: TrainJob) -> None:
    training = Training(
        model=ModelParams(name="tf_efficientnet_lite0", input_size=24),
        augment=PLAIN,
        train=train_params(steps=2, ema_decay=0.0),
        transfer=TransferParams(source="packaged", freeze_statistics=True),
    )
    train_model(replace(job, training=training), Worker(), ignore)
    trained, source = load_checkpoint(job.model), read_packaged("tf_efficientnet_lite0")
    assert (trained.spec.mean, trained.spec.std) == normalization(source, 1)
    network = trained.network.state_dict()
    same = {key for key, value in source.tensors.items() if torch.equal(network[key], value)}
    assert same == {key for key in network if key.endswith(("mean", "var", "tracked"))}
    seen: list[torch.Size] = []
    first = trained.network.get_submodule("conv_stem")
    first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    test = load_images(job.prepared / "test").images
    predict(trained.network, test, TASK, mean=trained.spec.mean, std=trained.spec.std)
    assert {shape[-2:] for shape in seen} == {(24, 24)}


def test_a_source_that_does_not_fit_ends_the_run_before_training(
    job: TrainJob, tmp_path: Path
) -> None:
    save_model(tmp_path / "source", network={"name": "resnet_small", "width": 6})
    steps: list[int] = []
    with pytest.raises(ParameterError, match=r"set model: \{name: resnet_small, width: 6\}"):
        train_model(
            transferred(job, tmp_path / "source"), Worker(), lambda step, values: steps.append(step)
        )
    assert steps == []
    assert not job.model.exists()
