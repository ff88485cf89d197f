"""How long a run will take here: a few images and steps are timed, the rest is multiplication."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from pipeline.data.preparation.inspection import Inspection
from pipeline.evaluate.views import num_views
from pipeline.files import read_json, write_json
from pipeline.models.checkpoint import network_of
from pipeline.models.parts import batched_features
from pipeline.models.passes import resolve_device
from pipeline.models.spec import ModelSpec
from pipeline.params import NetworkParams, Params, TransferParams
from pipeline.tasks import open_task
from pipeline.train.run import train_network
from pipeline.train.training_data import TrainingData
from pipeline.train.trials import FOLDS
from pipeline.train.worker import Worker
from pipeline.workflow.layout import STATE, Layout
from pipeline.workflow.times import stage_names

EMBEDDED = 32  # images
STEPS = 2
LARGEST_STEP = 32  # images; a larger one takes as many times longer
CLASSES = 10
STAGE_SECONDS = 6.0  # to start Python, torch and often Ray, once a stage
PASSES_A_STEP = 3  # forward, and backward twice as long
COUNTS = STATE / "counts.json"


@dataclass(frozen=True)
class Counts:
    """How many images a run has: all, the unlabelled, those with a label (of validation and test
    too); prepare: the seconds that preparing them takes."""

    images: int
    unlabeled: int
    judged: int
    prepare: float

    @classmethod
    def of(cls, inspection: Inspection, seconds: float) -> Counts:
        """From an inspection, and how long that took; preparing takes twice the time of looking at
        as many, as it reads each image once more and writes it."""
        judged = inspection.answered + inspection.tested
        prepare = 2 * seconds * inspection.images / max(1, inspection.decoded)
        return cls(inspection.images, inspection.unlabeled, judged, prepare)


def note_counts(root: Path, counts: Counts) -> None:
    """Keep the counts of the project's images until prepare has its own."""
    write_json(root / COUNTS, asdict(counts))


def known_counts(root: Path) -> Counts | None:
    """As prepare counted the images, else as an inspection did; None where neither has been."""
    try:
        prepared = read_json(Layout(root).metrics("prepare"))
        judged = sum(prepared[part] for part in ("labeled", "validation", "test"))
        return Counts(judged + prepared["unlabeled"], prepared["unlabeled"], judged, 0.0)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        return Counts(**read_json(root / COUNTS))
    except (OSError, ValueError, TypeError):
        return None


@dataclass(frozen=True)
class Rates:
    """Seconds: `embed` for an image by one actor, `step` for a step of a student, `predict` for an
    image that a student sees once."""

    embed: float
    step: float
    predict: float


def measure_rates(params: Params) -> Rates:
    """Time the frozen body on EMBEDDED images and STEPS steps of a student, as `params` say.

    On the device and threads that the stages use; images are noise, at the size they are stored.
    """
    generator = torch.Generator().manual_seed(0)
    data = params.data
    shape = (EMBEDDED, data.channels, data.image_size, data.image_size)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    before = torch.get_num_threads()
    try:
        step = _step_seconds(params, images)
        one = step / params.train.images_a_step(taught=True) / PASSES_A_STEP
        return Rates(_embed_seconds(params, images) if params.embed.source else 0.0, step, one)
    finally:
        torch.set_num_threads(before)


def estimate_seconds(params: Params, counts: Counts, rates: Rates) -> dict[str, float]:
    """Seconds of each stage, by name, in order.

    Where a trial is to choose, students are taken to be networks.
    """
    actors = max(1, min(params.run.actor_range[-1], os.cpu_count() or 1))
    transfer = params.transfer
    trial = FOLDS * transfer.trial_steps if transfer.mode == "auto" else 0
    work = {
        "prepare": counts.prepare,
        "embed": counts.images * rates.embed / actors,
        "search": trial * rates.step,
    }
    networks = {
        key: _whole_steps(params, key)
        for key in params.all_models
        if params.training(key).transfer.mode != "head"
    }
    evaluate = params.evaluate
    tested = num_views(evaluate.view_params(evaluate.views_or_centre))
    for key, steps in networks.items():
        kind = "train_control" if key in params.control_keys else "train_student"
        work["train_teacher" if key == "0" else f"{kind}@{key}"] = steps * rates.step
        work[f"evaluate@{key}"] = counts.judged * rates.predict * tested
    for key, generation in params.generations.items():
        if generation.teacher in networks:
            passes = counts.unlabeled * num_views(params.predict)
            work[f"pseudo_label@{key}"] = passes * rates.predict / actors
    names = stage_names(params.model_keys[1:], params.seed_keys, params.control_keys)
    return {name: STAGE_SECONDS + work.get(name, 0.0) for name in [*names, "report"]}


def _whole_steps(params: Params, key: str) -> float:
    """The steps of a model's training, in those of a student without an online teacher."""
    train, taught = params.training(key).train, key not in ("0", *params.control_keys)
    images: float = train.images_a_step(taught=taught)
    if taught and train.online is not None:  # it passes over the weak views
        share = 1 - train.online.start_fraction
        images += share * train.batch_size * train.unlabeled_ratio / PASSES_A_STEP
    return train.steps * images / params.train.images_a_step(taught=True)


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
    size = training.train.images_a_step(taught=True)
    few["batch_size"] = min(size, LARGEST_STEP)
    train = training.train.model_copy(update=few)
    training = training.model_copy(update={"train": train, "transfer": TransferParams()})
    torch.set_num_threads(train.threads)
    spec = _spec(params, training.model.network)
    task = open_task(params.task)
    none = torch.from_numpy(task.load(pa.chunked_array([], task.target.type), spec.image_size))
    labels = none.new_zeros(len(images), *none.shape[1:])
    data = TrainingData(
        images, labels, tuple(spec.mean), tuple(spec.std), num_classes=CLASSES, task=task
    )
    times: list[float] = []
    train_network(
        spec,
        data,
        training,
        seed=0,
        worker=Worker(device=resolve_device(train.device)),
        log=lambda step, values: times.append(time.perf_counter()),
    )
    return (times[-1] - times[0]) / (len(times) - 1) * size / few["batch_size"]


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
        task=params.task,
    )
