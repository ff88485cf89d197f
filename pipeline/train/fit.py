"""The one training loop, for teachers and students alike (Noisy Student, Xie et al. 2020)."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim

from pipeline.errors import ParameterError, TrainingError
from pipeline.params import AugmentParams, TrainParams
from pipeline.train.batch import Batch, prefetched, step_batch
from pipeline.train.history import Log
from pipeline.train.objective import Losses, step_losses
from pipeline.train.online import OnlineTeacher
from pipeline.train.optimizer import build_optimizer, phase, set_learning_rate
from pipeline.train.precision import with_precision
from pipeline.train.state import load_state, save_state
from pipeline.train.training_data import TrainingData
from pipeline.train.transfer import training_mode
from pipeline.train.weights import BestWeights, WeightAverage, averaged_logits
from pipeline.train.worker import Worker

VALIDATIONS = 10  # times a run is validated, for its curve
VALIDATION_BATCH = 1024
VALIDATION_UNITS = 1 << 20  # of which log-probabilities are in memory at once
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

    Global batch k and its augmentation are a function of (seed, k) alone, whatever the number of
    workers, and with `state_folder`, where the state is saved every `checkpoint_minutes`, a run
    that was stopped goes on where it was; one that `worker.stop` ends raises KeyboardInterrupt
    after the step. Weights that need no gradient stay as they are; `rates`: the learning rate of
    others as a share, by name.
    `log(step, values)` gets the losses, scores in [0, 1], learning rate and images/s.
    Raises TrainingError where the loss is not finite, ParameterError for a batch that the workers
    can't share evenly.
    """
    worker = worker or Worker()
    if train.batch_size % worker.world_size:
        raise ParameterError(
            f"train.batch_size = {train.batch_size}: must be a multiple of "
            f"train.workers = {worker.world_size}"
        )
    data = data.to(worker.device)
    run = _set_up(network, data, train, seed, rates, worker, log)
    start = load_state(state_folder, **run.state) if state_folder is not None else 0
    run.forward = worker.wrap(network)
    saved, done = time.monotonic(), start

    def make(step: int) -> Batch:
        in_force, _ = phase(run.train, step)
        online = step >= run.online_start
        return step_batch(data, in_force, augment, seed, step, worker, online=online)

    for step, batch in prefetched(make, range(start, train.steps)):
        done = step + 1
        losses = run.train_on(batch, step)
        run.log_losses(losses, step)
        if run.validate(done):
            break
        stop = worker.rank == 0 and worker.stop()
        if state_folder is not None and (
            stop or time.monotonic() - saved >= checkpoint_minutes * 60
        ):
            run.save(state_folder, losses, done)
            saved = time.monotonic()
        if stop:
            worker.stopped()
    _check_weights(network, done)
    best = run.best.tensors if run.best and train.keep == "best" else None
    return best or run.average.tensors


@dataclass
class _Run:
    """A network in training, and what changes with it; `online` teaches from `online_start` on.

    forward: the network, its gradients joined with other workers' once its state is loaded;
    train: with the precision that suits it; since, images: when losses were last logged, and the
    images seen since then.
    """

    network: nn.Module
    forward: nn.Module
    data: TrainingData
    train: TrainParams
    seed: int
    worker: Worker
    log: Log
    optimizer: optim.Optimizer
    average: WeightAverage
    online: OnlineTeacher | None
    online_start: int
    best: BestWeights | None
    since: float = field(default_factory=time.monotonic)
    images: int = 0

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

    def train_on(self, batch: Batch, step: int) -> Losses:
        """One step of the optimizer and of the averaged weights."""
        train, rate = phase(self.train, step)
        set_learning_rate(self.optimizer.param_groups, rate)
        teacher = self.online if step >= self.online_start else None
        losses = step_losses(
            self.forward,
            batch,
            train,
            self.seed,
            step,
            self.worker,
            teacher,
            task=self.data.task,
        )
        losses.total.backward()  # type: ignore[no-untyped-call]
        if train.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), train.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.network, step)
        self.images += losses.num_images * self.worker.world_size
        return losses

    def log_losses(self, losses: Losses, step: int) -> None:
        """Log them every `train.log_every` steps and after the last."""
        done = step + 1
        if done % self.train.log_every and done != self.train.steps:
            return
        _check_finite(losses.total.item(), step)
        values = {
            "loss": losses.total.item(),
            "loss_labeled": losses.labeled.item(),
            "loss_pseudo": losses.pseudo.item(),
            "learning_rate": phase(self.train, step)[1],
        }
        if losses.contrastive is not None:
            values["loss_contrastive"] = losses.contrastive.item()
        if self.online is not None and step >= self.online_start:
            values["online_coverage"] = losses.coverage.item()
        now = time.monotonic()
        self.log(done, values | {"images_per_second": self.images / (now - self.since)})
        self.since, self.images = now, 0

    def validate(self, done: int) -> bool:
        """Log the task's score of validation images, VALIDATIONS times a run; whether it has been
        no better for as long as `train.patience` says."""
        if done % max(1, self.train.steps // VALIDATIONS) or self.data.validation_images is None:
            return False
        score = _score(self.network, self.average.tensors, self.data)
        self.log(done, {f"val/{self.data.task.score}": score})
        return (
            self.best is not None
            and self.best.offer(self.average.tensors, score) == self.train.patience
        )

    def save(self, folder: Path, losses: Losses, done: int) -> None:
        """Keep the state after `done` steps, unless the loss or what came of it is not finite."""
        _check_finite(losses.total.item(), done - 1)
        _check_weights(self.network, done)
        if self.worker.rank == 0:
            save_state(folder, step=done, **self.state)


def _set_up(
    network: nn.Module,
    data: TrainingData,
    train: TrainParams,
    seed: int,
    rates: Mapping[str, float] | None,
    worker: Worker,
    log: Log,
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
    return _Run(
        network=network,
        forward=network,
        data=data,
        train=with_precision(train, network, data.image_shape, worker.device),
        seed=seed,
        worker=worker,
        log=log,
        optimizer=optimizer,
        average=average,
        online=online,
        online_start=online_start,
        best=BestWeights(average.tensors) if chooses else None,
    )


def _online_teacher(
    network: nn.Module,
    weights: dict[str, Tensor],
    data: TrainingData,
    train: TrainParams,
    worker: Worker,
) -> tuple[OnlineTeacher | None, int]:
    """The online teacher and the step from which it teaches; none for generation 0."""
    if train.online is None or not data.has_pseudo_labels:
        return None, train.steps
    prior = data.class_shares(worker.device)
    teacher = OnlineTeacher(network, weights, prior, train.online, across_workers=worker.mean)
    return teacher, round(train.steps * train.online.start_fraction)


def _score(network: nn.Module, weights: dict[str, Tensor], data: TrainingData) -> float:
    """The task's score of the averaged weights on the validation images as they are."""
    targets, task = data.validation_labels, data.task
    assert data.validation_images is not None
    assert targets is not None
    size = max(1, min(VALIDATION_BATCH, VALIDATION_UNITS // math.prod(targets.shape[1:])))
    parts = []
    for images, true in zip(
        torch.split(data.validation_images, size), torch.split(targets, size), strict=True
    ):
        logits = averaged_logits(network, weights, data.normalized(images.float() / 255))
        log_probs = logits.float().log_softmax(dim=1).nan_to_num()  # what broke is told elsewhere
        predictions = task.pack(log_probs)
        parts.append(task.evidence(predictions, true.cpu().numpy(), logits.shape[1]))
    return task.scores(np.concatenate(parts)).score


def _check_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise TrainingError(f"the loss is {loss} at step {step + 1}; {CALMER}")


def _check_weights(network: nn.Module, done: int) -> None:
    """A step of a finite loss can still have broken the weights, as only the next would tell."""
    if not all(bool(weight.isfinite().all()) for weight in network.parameters()):
        raise TrainingError(f"weights are not finite after step {done}; {CALMER}")
