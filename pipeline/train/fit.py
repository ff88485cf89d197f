"""The one training loop, for teachers and students alike (Noisy Student, Xie et al. 2020)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from pipeline import augment as augmentation
from pipeline.data.batches import batch_rows
from pipeline.errors import ParameterError, TrainingError
from pipeline.params import AugmentParams, TrainParams
from pipeline.train.ema import WeightAverage
from pipeline.train.losses import labeled_loss, pseudo_label_loss
from pipeline.train.noise import model_noise
from pipeline.train.optimizer import build_optimizer
from pipeline.train.schedule import warmup_cosine
from pipeline.train.state import load_state, save_state

VALIDATIONS = 10  # times a run is validated, for its curve
VALIDATION_BATCH = 1024
Stream = Literal["labeled", "unlabeled"]


@dataclass(frozen=True)
class TrainingData:
    """The tensors of one run.

    images: (N, C, S, S) uint8; labels: (N,) int64; mean, std: per channel, of [0, 1].
    unlabeled_images: (M, C, S, S) uint8; unlabeled_rows: (R,) int64, a row of unlabeled_images for
    each time a pseudo-label counts; unlabeled_targets: (R, K) float32 probabilities.
    """

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    unlabeled_images: Tensor | None = None
    unlabeled_rows: Tensor | None = None
    unlabeled_targets: Tensor | None = None
    validation_images: Tensor | None = None
    validation_labels: Tensor | None = None


@dataclass(frozen=True)
class Worker:
    """One of `world_size` workers that train together; `wrap` joins their gradients (DDP)."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network

    @property
    def rows(self) -> slice:
        """This worker's part of a global batch."""
        return slice(self.rank, None, self.world_size)


Log = Callable[[int, dict[str, float]], None]


def fit(
    network: nn.Module,
    data: TrainingData,
    *,
    train: TrainParams,
    augment: AugmentParams,
    seed: int,
    worker: Worker | None = None,
    log: Log = lambda step, values: None,
    state_folder: Path | None = None,
) -> dict[str, Tensor]:
    """Train `network` in place for `train.steps` steps; returns the averaged weights by name.

    Global batch k and its augmentation are a function of (seed, k) alone, whatever the number of
    workers, and with `state_folder` a run that was stopped goes on where it was.
    `log(step, values)` gets the losses, accuracies in [0, 1], learning rate and images/s.
    Raises TrainingError where the loss is not finite.
    """
    worker = worker or Worker()
    _check_divides(train, worker.world_size)
    data = _on_device(data, worker.device)
    network.to(worker.device).to(memory_format=torch.channels_last).train()
    optimizer = build_optimizer(
        network,
        train.optimizer,
        learning_rate=train.learning_rate,
        momentum=train.momentum,
        weight_decay=train.weight_decay,
    )
    average = WeightAverage(network, train.ema_decay)
    start = 0
    if state_folder is not None:
        start = load_state(
            state_folder, network=network, average=average.tensors, optimizer=optimizer
        )
    forward = worker.wrap(network)
    batch_images = train.batch_size * (1 + (train.unlabeled_ratio if _has_pseudo(data) else 0))
    saved = logged = time.monotonic()
    logged_step = start

    for step in range(start, train.steps):
        rate = train.learning_rate * warmup_cosine(step, train.steps, train.warmup_fraction)
        for group in optimizer.param_groups:
            group["lr"] = rate
        images, labels = _labeled_batch(data, train, augment, seed, step, worker)
        if _has_pseudo(data) and train.unlabeled_ratio:
            more, targets = _pseudo_labeled_batch(data, train, augment, seed, step, worker)
            with model_noise(seed, step, worker.rank, worker.device):
                logits = forward(torch.cat([images, more]))
            loss_pseudo = pseudo_label_loss(logits[len(images) :], targets)
        else:
            with model_noise(seed, step, worker.rank, worker.device):
                logits = forward(images)
            loss_pseudo = logits.new_zeros(())
        loss_labeled = labeled_loss(
            logits[: len(images)], labels, label_smoothing=train.label_smoothing
        )
        loss = loss_labeled + train.unlabeled_weight * loss_pseudo
        loss.backward()  # type: ignore[no-untyped-call]
        if train.clip_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), train.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(network, step)

        done, now = step + 1, time.monotonic()
        if done % train.log_every == 0 or done == train.steps:
            values = {
                "loss": loss.item(),
                "loss_labeled": loss_labeled.item(),
                "loss_pseudo": loss_pseudo.item(),
                "learning_rate": rate,
                "images_per_second": (done - logged_step) * batch_images / (now - logged),
            }
            _check_finite(values["loss"], step)
            logged, logged_step = now, done
            log(done, values)
        if done % max(1, train.steps // VALIDATIONS) == 0 and data.validation_images is not None:
            log(done, {"val/accuracy": _validate(network, average.tensors, data)})
        if state_folder is not None and now - saved >= train.checkpoint_minutes * 60:
            _check_finite(loss.item(), step)
            if worker.rank == 0:
                save_state(
                    state_folder,
                    step=done,
                    network=network,
                    average=average.tensors,
                    optimizer=optimizer,
                )
            saved = now
    return average.tensors


def _labeled_batch(
    data: TrainingData,
    train: TrainParams,
    augment: AugmentParams,
    seed: int,
    step: int,
    worker: Worker,
) -> tuple[Tensor, Tensor]:
    rows = _rows("labeled", seed, step, train.batch_size, len(data.images), worker)
    images = data.images[rows]
    draws = _draws("labeled", seed, step, train.batch_size, worker)
    return _view(images, draws, train.labeled_augment, augment, data), data.labels[rows]


def _pseudo_labeled_batch(
    data: TrainingData,
    train: TrainParams,
    augment: AugmentParams,
    seed: int,
    step: int,
    worker: Worker,
) -> tuple[Tensor, Tensor]:
    assert data.unlabeled_images is not None
    assert data.unlabeled_rows is not None
    assert data.unlabeled_targets is not None
    batch_size = train.batch_size * train.unlabeled_ratio
    rows = _rows("unlabeled", seed, step, batch_size, len(data.unlabeled_rows), worker)
    images = data.unlabeled_images[data.unlabeled_rows[rows]]
    draws = _draws("unlabeled", seed, step, batch_size, worker)
    view = _view(images, draws, train.unlabeled_augment, augment, data)
    return view, data.unlabeled_targets[rows]


def _rows(
    stream: Stream, seed: int, step: int, batch_size: int, count: int, worker: Worker
) -> Tensor:
    rows = batch_rows(step, batch_size, count, _stream_seed(stream, seed))
    return torch.from_numpy(rows[worker.rows]).to(worker.device)


def _draws(
    stream: Stream, seed: int, step: int, batch_size: int, worker: Worker
) -> augmentation.Draws:
    return augmentation.Draws(
        _stream_seed(stream, seed, step), batch_size, worker.rows, str(worker.device)
    )


def _stream_seed(stream: Stream, *numbers: int) -> int:
    sequence = np.random.SeedSequence([0 if stream == "labeled" else 1, *numbers])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def _view(
    images: Tensor,
    draws: augmentation.Draws,
    kind: Literal["none", "weak", "strong"],
    augment: AugmentParams,
    data: TrainingData,
) -> Tensor:
    """(n, C, S, S) uint8 → the view `kind` of it, normalised float32."""
    pixels = images.float() / 255
    if kind == "weak":
        pixels = augmentation.weak(
            pixels, draws, shift=augment.shift, flip=augment.flip, padding=augment.padding
        )
    elif kind == "strong":
        pixels = augmentation.strong(
            pixels,
            draws,
            shift=augment.shift,
            flip=augment.flip,
            padding=augment.padding,
            operations=augment.operations,
            num_ops=augment.num_ops,
            magnitude=augment.magnitude,
            magnitude_std=augment.magnitude_std,
            sampling=augment.magnitude_sampling,
            distinct=augment.distinct_ops,
            cutout=augment.cutout,
        )
    return _normalized(pixels, data).contiguous(memory_format=torch.channels_last)


def _normalized(pixels: Tensor, data: TrainingData) -> Tensor:
    mean = torch.tensor(data.mean, device=pixels.device).view(1, -1, 1, 1)
    std = torch.tensor(data.std, device=pixels.device).view(1, -1, 1, 1)
    return (pixels - mean) / std


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
        inputs = _normalized(images.float() / 255, data)
        logits = torch.func.functional_call(network, weights, (inputs,))
        right += int((logits.argmax(dim=1) == labels).sum())
    network.train()
    return right / len(data.validation_images)


def _has_pseudo(data: TrainingData) -> bool:
    return data.unlabeled_rows is not None and len(data.unlabeled_rows) > 0


def _on_device(data: TrainingData, device: torch.device) -> TrainingData:
    moved: dict[str, Any] = {
        key: value.to(device) for key, value in vars(data).items() if isinstance(value, Tensor)
    }
    return replace(data, **moved)


def _check_divides(train: TrainParams, world_size: int) -> None:
    if train.batch_size % world_size:
        raise ParameterError(
            f"train.batch_size = {train.batch_size}: must be a multiple of "
            f"train.workers = {world_size}"
        )


def _check_finite(loss: float, step: int) -> None:
    if not np.isfinite(loss):
        raise TrainingError(
            f"the loss is {loss} at step {step + 1}; lower train.learning_rate, or set "
            "train.clip_norm"
        )
