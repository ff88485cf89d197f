"""How long a run will take here: a few images and steps are timed, the rest is multiplication."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.data.preparation.inspection import Inspection
from pipeline.models.checkpoint import network_of
from pipeline.models.packaged import read_packaged
from pipeline.models.parts import batched_features
from pipeline.models.passes import resolve_device
from pipeline.models.spec import ModelSpec
from pipeline.params import NetworkParams, Params
from pipeline.train.run import train_network
from pipeline.train.training_data import TrainingData
from pipeline.train.trials import FOLDS
from pipeline.train.worker import Worker
from pipeline.workflow.times import stage_names

EMBEDDED = 32  # images
STEPS = 2
CLASSES = 10
STAGE_SECONDS = 6.0  # to start Python, torch and often Ray, once a stage


@dataclass(frozen=True)
class Rates:
    """Seconds: `embed` for an image by one actor, `step` for a step of a student."""

    embed: float
    step: float


def measure_rates(params: Params) -> Rates:
    """Time the packaged body on EMBEDDED images and STEPS steps of a student, as `params` say.

    On the device and threads that the stages use; images are noise, at the size they are stored.
    """
    generator = torch.Generator().manual_seed(0)
    data = params.data
    shape = (EMBEDDED, data.channels, data.image_size, data.image_size)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    before = torch.get_num_threads()
    try:
        return Rates(_embed_seconds(params, images), _step_seconds(params, images))
    finally:
        torch.set_num_threads(before)


def estimate_seconds(
    params: Params, found: Inspection, rates: Rates, *, looked: float
) -> dict[str, float]:
    """Seconds of each part of a run, in order; looked: what looking at the images took, seconds.

    Prepare reads each image once more, and writes it: twice the time of looking at as many. Where a
    trial is to choose, students are taken to be networks.
    """
    networks = [key for key in params.model_keys if params.training(key).transfer.mode != "head"]
    controls = sum(control.steps for control in params.controls.values())
    trial = FOLDS * params.transfer.trial_steps if params.transfer.mode == "auto" else 0
    judged = found.labeled.total() + found.test.total()
    predicted = (
        len(networks[:-1]) * found.unlabeled + (len(networks) + len(params.controls)) * judged
    )
    actors = min(params.run.actor_range[-1], os.cpu_count() or 1)
    stages = stage_names(params.model_keys[1:], params.seed_keys, params.control_keys)
    return {
        "prepare": 2 * looked * found.images / max(1, found.decoded),
        "features": found.images * rates.embed / actors,
        "trial": trial * rates.step,
        "students": params.all_steps * rates.step,
        "control": controls * rates.step,
        "predictions": predicted * rates.embed / actors,
        "starting stages": len(stages) * STAGE_SECONDS,
    }


def expected_time(
    params: Params, inspection: Inspection, seconds: float, *, gpu: bool
) -> list[str]:
    """How long a run will take here, and what would do more; seconds: what the inspection took."""
    from pipeline.data.preparation.advise import LARGER_BODY

    parts = estimate_seconds(params, inspection, measure_rates(params), looked=seconds)
    faster = "" if gpu else "; a GPU affords larger images and networks"
    return [
        f"dvc repro will take {in_words(parts)} here, by a few images and steps just timed{faster}",
        f"with a network to fetch weights, a larger body: embed: {LARGER_BODY}",
    ]


def in_words(parts: dict[str, float]) -> str:
    """Seconds by part as a person says it: "about 25 minutes: students 14, control 9, …"."""
    whole = sum(parts.values())
    shown = ", ".join(
        f"{name} {seconds / 60:.0f}"
        for name, seconds in sorted(parts.items(), key=lambda part: -part[1])
        if seconds >= 30
    )
    minutes = max(1, round(whole / 60))
    return f"about {minutes} minute{'s' if minutes > 1 else ''}" + (f" ({shown})" if shown else "")


def _embed_seconds(params: Params, images: Tensor) -> float:
    embed, device = params.embed, resolve_device(params.embed.device)
    torch.set_num_threads(embed.threads)
    network = NetworkParams(name=embed.name, input_size=embed.input_size, stem="standard")
    body = network_of(_spec(params, network.model_dump())).to(device).eval()
    body = body.to(memory_format=torch.channels_last)
    normalization = {"mean": [0.5] * params.data.channels, "std": [0.25] * params.data.channels}
    batched_features(
        body, images[:2].to(device), **normalization, batch_size=2
    )  # the first pass is slower
    start = time.perf_counter()
    batched_features(body, images.to(device), **normalization, batch_size=len(images)).cpu()
    return (time.perf_counter() - start) / len(images)


def _step_seconds(params: Params, images: Tensor) -> float:
    training = params.shared_training
    few = {"steps": STEPS + 1, "log_every": 1, "finetune_steps": 0}
    transfer = training.transfer.model_copy(update={"mode": "layerwise"})
    size = training.train.images_a_step(taught=True)
    train = training.train.model_copy(update=few | {"batch_size": size})
    training = training.model_copy(update={"train": train, "transfer": transfer})
    torch.set_num_threads(train.threads)
    spec = _spec(params, training.model.network)
    labels = torch.arange(len(images)) % CLASSES
    data = TrainingData(images, labels, tuple(spec.mean), tuple(spec.std))
    times: list[float] = []
    train_network(
        spec,
        data,
        training,
        seed=0,
        weights=read_packaged(training.model.name),
        worker=Worker(device=resolve_device(train.device)),
        log=lambda step, values: times.append(time.perf_counter()),
    )
    return (times[-1] - times[0]) / (len(times) - 1)


def _spec(params: Params, network: dict[str, object]) -> ModelSpec:
    data = params.data
    return ModelSpec(
        network=network,
        classes=[str(number) for number in range(CLASSES)],
        image_size=data.image_size,
        channels=data.channels,
        mean=[0.5] * data.channels,
        std=[0.25] * data.channels,
        generation="0",
    )
