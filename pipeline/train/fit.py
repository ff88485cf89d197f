"""The one training loop, for teachers and students alike (Noisy Student, Xie et al. 2020)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.errors import ParameterError, TrainingError
from pipeline.models.auxiliary import all_logits, drop_auxiliary, total_loss
from pipeline.params import AugmentParams, TrainParams
from pipeline.train.batch import (
    TrainingData,
    Worker,
    has_pseudo_labels,
    labeled_batch,
    network_inputs,
    on_device,
    pseudo_labeled_batch,
)
from pipeline.train.ema import WeightAverage
from pipeline.train.losses import labeled_loss, pseudo_label_loss
from pipeline.train.noise import model_noise
from pipeline.train.optimizer import build_optimizer, set_learning_rate
from pipeline.train.schedule import warmup_cosine
from pipeline.train.state import load_state, save_state
from pipeline.train.transfer import training_mode

VALIDATIONS = 10  # times a run is validated, for its curve
VALIDATION_BATCH = 1024
Log = Callable[[int, dict[str, float]], None]


class Losses(NamedTuple):
    """The losses of one step: the sum that is minimised, and its two parts unweighted.

    Of a network with auxiliary classifiers the parts are those of the main one.
    """

    total: Tensor
    labeled: Tensor
    pseudo: Tensor


def fit(
    network: nn.Module,
    data: TrainingData,
    *,
    train: TrainParams,
    augment: AugmentParams,
    seed: int,
    rates: Mapping[str, float] | None = None,
    worker: Worker | None = None,
    log: Log = lambda step, values: None,
    state_folder: Path | None = None,
) -> dict[str, Tensor]:
    """Train `network` in place for `train.steps` steps; returns the averaged weights by name.

    Auxiliary classifiers, where `network` has them, are trained with it and dropped at the end.
    Global batch k and its augmentation are a function of (seed, k) alone, whatever the number of
    workers, and with `state_folder` a run that was stopped goes on where it was. Weights that need
    no gradient stay as they are; `rates`: the learning rate of others as a share, by name.
    `log(step, values)` gets the losses, accuracies in [0, 1], learning rate and images/s.
    Raises TrainingError where the loss is not finite, ParameterError for a batch that the workers
    can't share evenly.
    """
    worker = worker or Worker()
    if train.batch_size % worker.world_size:
        raise ParameterError(
            f"train.batch_size = {train.batch_size}: must be a multiple of "
            f"train.workers = {worker.world_size}"
        )
    data = on_device(data, worker.device)
    network.to(worker.device).to(memory_format=torch.channels_last)
    training_mode(network)
    optimizer = build_optimizer(
        network,
        train.optimizer,
        learning_rate=train.learning_rate,
        momentum=train.momentum,
        weight_decay=train.weight_decay,
        rates=rates,
    )
    average = WeightAverage(network, train.ema_decay)
    state: dict[str, Any] = {"network": network, "average": average.tensors, "optimizer": optimizer}
    start = load_state(state_folder, **state) if state_folder is not None else 0
    forward = worker.wrap(network)
    saved = logged = time.monotonic()
    images_done = 0

    for step in range(start, train.steps):
        rate = train.learning_rate * warmup_cosine(step, train.steps, train.warmup_fraction)
        set_learning_rate(optimizer.param_groups, rate)
        losses, num_images = _losses(forward, data, train, augment, seed, step, worker)
        losses.total.backward()  # type: ignore[no-untyped-call]
        if train.clip_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), train.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(network, step)

        done, now = step + 1, time.monotonic()
        images_done += num_images * worker.world_size
        if done % train.log_every == 0 or done == train.steps:
            values = _logged(losses, rate, step)
            log(done, values | {"images_per_second": images_done / (now - logged)})
            logged, images_done = now, 0
        if done % max(1, train.steps // VALIDATIONS) == 0 and data.validation_images is not None:
            log(done, {"val/accuracy": _validate(network, average.tensors, data)})
        if state_folder is not None and now - saved >= train.checkpoint_minutes * 60:
            _check_finite(losses.total.item(), step)
            if worker.rank == 0:
                save_state(state_folder, step=done, **state)
            saved = now
    return drop_auxiliary(network, average.tensors)


def _losses(
    forward: nn.Module,
    data: TrainingData,
    train: TrainParams,
    augment: AugmentParams,
    seed: int,
    step: int,
    worker: Worker,
) -> tuple[Losses, int]:
    """The losses on this worker's part of global batch `step`, and its number of images."""
    images, labels = labeled_batch(data, train, augment, seed, step, worker)
    targets = None
    if has_pseudo_labels(data) and train.unlabeled_ratio:
        more, targets = pseudo_labeled_batch(data, train, augment, seed, step, worker)
        images = torch.cat([images, more])
    with model_noise(seed, step, worker.rank, worker.device):
        heads = all_logits(forward(images))
    losses = [_head_losses(logits, labels, targets, train) for logits in heads]
    total = total_loss([loss.total for loss in losses])
    return losses[0]._replace(total=total), len(images)


def _head_losses(
    logits: Tensor, labels: Tensor, targets: Tensor | None, train: TrainParams
) -> Losses:
    """The losses of one classifier's logits: (n + m, K), labels (n,), targets (m, K) or None."""
    count = len(labels)
    labeled = labeled_loss(logits[:count], labels, label_smoothing=train.label_smoothing)
    pseudo = logits.new_zeros(())
    if targets is not None:
        pseudo = pseudo_label_loss(logits[count:], targets)
    return Losses(labeled + train.unlabeled_weight * pseudo, labeled, pseudo)


def _logged(losses: Losses, rate: float, step: int) -> dict[str, float]:
    total, labeled, pseudo = (loss.item() for loss in losses)
    _check_finite(total, step)
    return {
        "loss": total,
        "loss_labeled": labeled,
        "loss_pseudo": pseudo,
        "learning_rate": rate,
    }


@torch.no_grad()
def _validate(network: nn.Module, weights: dict[str, Tensor], data: TrainingData) -> float:
    """Accuracy of the averaged weights on the validation images as they are."""
    assert data.validation_images is not None
    assert data.validation_labels is not None
    network.eval()
    right = 0
    for images, labels in zip(
        torch.split(data.validation_images, VALIDATION_BATCH),
        torch.split(data.validation_labels, VALIDATION_BATCH),
        strict=True,
    ):
        inputs = network_inputs(images, data)
        logits = torch.func.functional_call(network, weights, (inputs,))
        right += int((logits.argmax(dim=1) == labels).sum())
    training_mode(network)
    return right / len(data.validation_images)


def _check_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss is {loss} at step {step + 1}; lower train.learning_rate, or set "
            "train.clip_norm"
        )
