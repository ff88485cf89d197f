"""What saved models say of images, each looking at them as it was trained to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.data.shards import read_manifest
from pipeline.data.sliced import ShardSlices
from pipeline.data.tensors import Images, decoding_pool
from pipeline.evaluate.guard import NOTHING, ValidationCounts, count_evidence
from pipeline.evaluate.measure import read_targets
from pipeline.evaluate.views import CENTRE, iter_log_probs, num_views, packed
from pipeline.models.checkpoint import Checkpoint, load_checkpoint
from pipeline.models.head import refuse_answers
from pipeline.models.passes import (
    Passes,
    choose_passes,
    has_bfloat16,
    most_images,
    runs_in_bfloat16,
)
from pipeline.models.spec import ModelSpec, read_spec
from pipeline.params import ViewParams
from pipeline.params.errors import shortened
from pipeline.progress import Advance
from pipeline.tasks import Task, open_task
from pipeline.tasks.significance import BOOTSTRAP
from pipeline.tasks.task import Array


def checkpoint_predictions(
    checkpoint: Checkpoint,
    images: Images,
    views: ViewParams = CENTRE,
    *,
    seed: int = 0,
    alike: bool = False,
    passes: Passes | None = None,
    advance: Advance | None = None,
) -> Array:
    """A model's calibrated predictions of `images` (N, C, S, S) uint8, (N, …), on its device; see
    views.How.

    The normalisation and temperature are those of its own spec, so that models that differ in them
    can stand side by side. Raises CheckpointError for what is not finite.
    """
    spec = checkpoint.spec
    task = open_task(spec.task)
    log_probs = iter_log_probs(
        checkpoint.network,
        images,
        task,
        mean=spec.mean,
        std=spec.std,
        temperature=spec.temperature,
        views=views,
        seed=seed,
        alike=alike,
        passes=passes,
        device=checkpoint.device,
        advance=advance,
    )
    return packed(
        _checked(log_probs, f"the model of generation {shortened(spec.generation)!r}"), task
    )


def _checked(batches: Iterable[Tensor], whose: str) -> Iterator[Tensor]:
    """The same; CheckpointError once all are through where some are no numbers."""
    wrong = count = 0
    for log_probs in batches:
        flat = log_probs.flatten(1)
        doubtful = ~flat.sum(dim=1).isfinite()  # of large finite values too, but a tenth the work
        if doubtful.any():
            wrong += int((~flat[doubtful].isfinite()).any(dim=1).sum())
        count += len(log_probs)
        yield log_probs
    refuse_answers(wrong, count, whose)


def checkpoint_passes(
    checkpoint: Checkpoint, count: int, views: ViewParams, *, precision: str
) -> Passes:
    """How the model, on its device, predicts `count` images, whatever part of them at a time.

    precision: float32, bfloat16, or auto: bfloat16 where the machine has instructions for it and
    the model was as accurate in it on its validation images.
    """
    spec, most = checkpoint.spec, views.batch_size
    shape = (spec.channels, spec.image_size, spec.image_size)
    if not open_task(spec.task).image_classes:
        most = most_images(checkpoint.network, shape, most)
    agrees = precision == "auto" and spec.bfloat16_agrees and has_bfloat16(checkpoint.device)
    return choose_passes(
        checkpoint.network,
        shape,
        count * num_views(views),
        most=most,
        bfloat16=agrees or precision == "bfloat16",
    )


def predicted_parts(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    spec: ModelSpec,
    *,
    passes: Passes | None = None,
) -> Iterator[tuple[Tensor, NDArray[Any]]]:
    """Uncalibrated log-probabilities (n, K, …) and targets (n, …) of some images after others.

    The network is in evaluation mode; images: (N, C, S, S) uint8; targets: (N, …).
    """
    device, start = next(network.parameters()).device, 0
    for log_probs in iter_log_probs(
        network,
        images,
        open_task(spec.task),
        mean=spec.mean,
        std=spec.std,
        passes=passes,
        device=device,
    ):
        yield log_probs.cpu(), targets[start : start + len(log_probs)].cpu().numpy()
        start += len(log_probs)


def evidence_of(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    spec: ModelSpec,
    *,
    passes: Passes | None = None,
) -> NDArray[Any]:
    """How each image speaks for the network, (N, …), as the task has it; see predicted_parts."""
    task, num_classes = open_task(spec.task), len(spec.classes)
    return np.concatenate(
        [
            task.evidence(task.pack(log_probs), true, num_classes)
            for log_probs, true in predicted_parts(network, images, targets, spec, passes=passes)
        ]
    )


def bfloat16_agrees(network: nn.Module, images: Tensor, targets: Tensor, spec: ModelSpec) -> bool:
    """Whether bfloat16 changes the score on these images by no more than its interval.

    See predicted_parts. False where there are no images, and where the network's device has no
    instructions for it, so that trying would take long, or one of its layers no kernel.
    """
    if not len(images) or not runs_in_bfloat16(network, images.shape[1:]):
        return False
    full, half = (
        evidence_of(network, images, targets, spec, passes=passes)
        for passes in (Passes(channels_last=True), Passes(channels_last=True, bfloat16=True))
    )
    return open_task(spec.task).compare(full, half, BOOTSTRAP).verdict not in ("better", "worse")


def count_on_validation(
    student: Path,
    teacher: Path | None,
    validation: Path,
    task: Task,
    *,
    threads: int,
    device: str,
) -> ValidationCounts:
    """Compare the model folders `student` and `teacher`, one centre view an image."""
    if not read_manifest(validation).rows:
        return NOTHING
    targets = read_targets(validation, task, read_spec(student).image_size)
    with decoding_pool(threads) as pool:
        images = ShardSlices(validation, pool)

        def evidence(folder: Path) -> Array:
            checkpoint = load_checkpoint(folder)
            checkpoint.network.to(device)
            predictions = checkpoint_predictions(checkpoint, images)
            return task.evidence(predictions, targets, len(checkpoint.spec.classes))

        return count_evidence(
            task, evidence(student), None if teacher is None else evidence(teacher)
        )
