"""What saved models say of images, each looking at them as it was trained to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.data.tensors import Images, load_images
from pipeline.evaluate.guard import ValidationCounts, count_right
from pipeline.evaluate.views import CENTRE, num_views, predict_log_probs
from pipeline.models.checkpoint import Checkpoint, load_checkpoint
from pipeline.models.head import check_answers
from pipeline.models.passes import Passes, choose_passes, has_bfloat16, runs_in_bfloat16
from pipeline.models.spec import ModelSpec
from pipeline.params import ViewParams
from pipeline.params.errors import shortened
from pipeline.progress import Advance
from pipeline.tasks import open_task
from pipeline.tasks.metrics import correct
from pipeline.tasks.significance import BOOTSTRAP

PART_UNITS = 1 << 20  # of which log-probabilities are in memory at once


def checkpoint_log_probs(
    checkpoint: Checkpoint,
    images: Images,
    views: ViewParams = CENTRE,
    *,
    seed: int = 0,
    alike: bool = False,
    passes: Passes | None = None,
    advance: Advance | None = None,
) -> NDArray[np.float32]:
    """A model's calibrated log-probabilities of `images` (N, C, S, S) uint8, (N, K), on its device;
    see predict_log_probs.

    The normalisation and temperature are those of its own spec, so that models that differ in them
    can stand side by side. Raises CheckpointError for what is not finite.
    """
    spec = checkpoint.spec
    log_probs = predict_log_probs(
        checkpoint.network,
        images,
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
    check_answers(log_probs, f"the model of generation {shortened(spec.generation)!r}")
    return log_probs


def checkpoint_passes(
    checkpoint: Checkpoint, count: int, views: ViewParams, *, precision: str
) -> Passes:
    """How the model, on its device, predicts `count` images, whatever part of them at a time.

    precision: float32, bfloat16, or auto: bfloat16 where the machine has instructions for it and
    the model was as accurate in it on its validation images.
    """
    spec = checkpoint.spec
    agrees = precision == "auto" and spec.bfloat16_agrees and has_bfloat16(checkpoint.device)
    return choose_passes(
        checkpoint.network,
        (spec.channels, spec.image_size, spec.image_size),
        count * num_views(views),
        most=views.batch_size,
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
    device = next(network.parameters()).device
    size = max(1, PART_UNITS // math.prod(targets.shape[1:]))
    for some, true in zip(torch.split(images, size), torch.split(targets, size), strict=True):
        log_probs = predict_log_probs(
            network, some, mean=spec.mean, std=spec.std, passes=passes, device=device
        )
        yield torch.from_numpy(log_probs), true.cpu().numpy()


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
    *,
    threads: int,
    cache_gib: float,
    device: str,
) -> ValidationCounts:
    """Compare the model folders `student` and `teacher`, one centre view an image."""
    images = load_images(validation, threads=threads, cache_gib=cache_gib)
    if not len(images):
        return ValidationCounts(0, None, None, 0, 0)

    def right(folder: Path) -> NDArray[np.bool_]:
        checkpoint = load_checkpoint(folder)
        checkpoint.network.to(device)
        return correct(checkpoint_log_probs(checkpoint, images.images), images.targets.numpy())

    return count_right(right(student), None if teacher is None else right(teacher))
