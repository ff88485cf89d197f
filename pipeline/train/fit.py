"""The one training loop, for teachers and students alike (Noisy Student, Xie et al. 2020)."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim

from pipeline.errors import ParameterError, TrainingError
from pipeline.models.auxiliary import drop_auxiliary
from pipeline.params import AugmentParams, TrainParams
from pipeline.train.ahead import made_ahead
from pipeline.train.batch import Batch, step_batch
from pipeline.train.best import BestWeights
from pipeline.train.ema import WeightAverage, averaged_logits
from pipeline.train.history import Log
from pipeline.train.objective import Losses, step_losses
from pipeline.train.online import OnlineTeacher
from pipeline.train.optimizer import build_optimizer, set_learning_rate
from pipeline.train.precision import with_precision
from pipeline.train.schedule import phase
from pipeline.train.state import load_state, save_state
from pipeline.train.training_data import (
    TrainingData,
    count_classes,
    has_pseudo_labels,
    network_inputs,
    on_device,
)
from pipeline.train.transfer import training_mode
from pipeline.train.worker import Worker

VALIDATIONS = 10  # times a run is validated, for its curve
VALIDATION_BATCH = 1024
CALMER = "lower train.learning_rate, or set train.clip_norm"


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
    checkpoint_minutes: float = 5.0,
) -> dict[str, Tensor]:
    """Train `network` in place for `train.steps` steps; returns the averaged weights by name.

    Auxiliary classifiers, where `network` has them, are trained with it and dropped at the end.
    Global batch k and its augmentation are a function of (seed, k) alone, whatever the number of
    workers, and with `state_folder`, where the state is saved every `checkpoint_minutes`, a run
    that was stopped goes on where it was; one that `worker.stop` ends raises KeyboardInterrupt
    after the step. Weights that need no gradient stay as they are; `rates`: the learning rate of
    others as a share, by name.
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
    run = _set_up(network, data, train, rates, worker)
    train = with_precision(train, network, data.image_shape, worker.device)
    start = load_state(state_folder, **run.state) if state_folder is not None else 0
    forward = worker.wrap(network)
    saved = logged = time.monotonic()
    images_done, done = 0, start

    def make(step: int) -> Batch:
        in_force, _ = phase(train, step)
        online = step >= run.online_start
        return step_batch(data, in_force, augment, seed, step, worker, online=online)

    for step, batch in made_ahead(make, range(start, train.steps)):
        in_force, rate = phase(train, step)
        set_learning_rate(run.optimizer.param_groups, rate)
        teacher = run.online if step >= run.online_start else None
        losses = step_losses(forward, batch, in_force, seed, step, worker, teacher)
        losses.total.backward()  # type: ignore[no-untyped-call]
        if train.clip_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), train.clip_norm)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        run.average.update(network, step)

        done, now = step + 1, time.monotonic()
        images_done += losses.num_images * worker.world_size
        if done % train.log_every == 0 or done == train.steps:
            values = _logged(losses, rate, step, online=teacher is not None)
            log(done, values | {"images_per_second": images_done / (now - logged)})
            logged, images_done = now, 0
        if done % max(1, train.steps // VALIDATIONS) == 0 and data.validation_images is not None:
            accuracy = _validate(network, run.average.tensors, data)
            log(done, {"val/accuracy": accuracy})
            if run.best and run.best.offer(run.average.tensors, accuracy) == train.patience:
                break
        stop = worker.rank == 0 and worker.stop()
        if state_folder is not None and (stop or now - saved >= checkpoint_minutes * 60):
            _save(run, losses, state_folder, done, worker)
            saved = now
        if stop:
            worker.stopped()
    _check_weights(network, done)
    best = run.best.tensors if run.best and train.keep == "best" else None
    return drop_auxiliary(network, best or run.average.tensors)


@dataclass(frozen=True)
class _Run:
    """What a run changes from step to step; `online` teaches from step `online_start`."""

    network: nn.Module
    optimizer: optim.Optimizer
    average: WeightAverage
    online: OnlineTeacher | None
    online_start: int
    best: BestWeights | None

    @property
    def state(self) -> dict[str, Any]:
        """All that a stopped run needs to go on, as save_state takes it."""
        more = {f"best/{key}": value for key, value in self.best.state.items()} if self.best else {}
        return {
            "network": self.network,
            "average": self.average.tensors,
            "optimizer": self.optimizer,
            "more": more | {"online/mean": self.online.mean} if self.online else more,
        }


def _set_up(
    network: nn.Module,
    data: TrainingData,
    train: TrainParams,
    rates: Mapping[str, float] | None,
    worker: Worker,
) -> _Run:
    """Put the network on its device, in training mode, with what trains it."""
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
    online, online_start = _online_teacher(network, average.tensors, data, train, worker)
    chooses = data.validation_images is not None and (train.keep == "best" or train.patience)
    best = BestWeights(average.tensors) if chooses else None
    return _Run(network, optimizer, average, online, online_start, best)


def _online_teacher(
    network: nn.Module,
    weights: dict[str, Tensor],
    data: TrainingData,
    train: TrainParams,
    worker: Worker,
) -> tuple[OnlineTeacher | None, int]:
    """The online teacher and the step from which it teaches; none for generation 0."""
    if train.online is None or not has_pseudo_labels(data):
        return None, train.steps
    targets = data.unlabeled_targets
    num_classes = count_classes(data) if targets is None else targets.shape[1]
    counts = torch.bincount(data.labels, minlength=num_classes)
    prior = counts.float() / counts.sum()
    teacher = OnlineTeacher(network, weights, prior, train.online, across_workers=worker.mean)
    return teacher, round(train.steps * train.online.start_fraction)


def _save(run: _Run, losses: Losses, folder: Path, done: int, worker: Worker) -> None:
    """Keep the state after `done` steps, unless the loss or what came of it is not finite."""
    _check_finite(losses.total.item(), done - 1)
    _check_weights(run.network, done)
    if worker.rank == 0:
        save_state(folder, step=done, **run.state)


def _logged(losses: Losses, rate: float, step: int, *, online: bool) -> dict[str, float]:
    _check_finite(losses.total.item(), step)
    values = {
        "loss": losses.total.item(),
        "loss_labeled": losses.labeled.item(),
        "loss_pseudo": losses.pseudo.item(),
        "learning_rate": rate,
    }
    if losses.contrastive is not None:
        values["loss_contrastive"] = losses.contrastive.item()
    return values | {"online_coverage": losses.kept.item()} if online else values


def _validate(network: nn.Module, weights: dict[str, Tensor], data: TrainingData) -> float:
    """Accuracy of the averaged weights on the validation images as they are."""
    assert data.validation_images is not None
    assert data.validation_labels is not None
    right = 0
    for images, labels in zip(
        torch.split(data.validation_images, VALIDATION_BATCH),
        torch.split(data.validation_labels, VALIDATION_BATCH),
        strict=True,
    ):
        logits = averaged_logits(network, weights, network_inputs(images, data))
        right += int((logits.argmax(dim=1) == labels).sum())
    return right / len(data.validation_images)


def _check_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise TrainingError(f"the loss is {loss} at step {step + 1}; {CALMER}")


def _check_weights(network: nn.Module, done: int) -> None:
    """A step of a finite loss can still have broken the weights, as only the next would tell."""
    if not all(bool(weight.isfinite().all()) for weight in network.parameters()):
        raise TrainingError(f"weights are not finite after step {done}; {CALMER}")
