"""What one training step minimises: the losses on a labelled and a pseudo-labelled batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.augment import Warp
from pipeline.models.parts import features_read
from pipeline.params import TrainParams
from pipeline.tasks import Task
from pipeline.train.batch import Batch, LabeledBatch
from pipeline.train.losses import (
    contrastive_loss,
    distillation_loss,
    labeled_loss,
    pseudo_label_loss,
)
from pipeline.train.online import OnlineTeacher
from pipeline.train.precision import passes_in
from pipeline.train.worker import Worker


class Losses(NamedTuple):
    """The losses of one step: the sum that is minimised, and its parts unweighted.

    coverage: the share of the unlabelled images of which the teacher was sure enough; num_images:
    of this worker; contrastive: None where no views are contrasted.
    """

    total: Tensor
    labeled: Tensor
    pseudo: Tensor
    coverage: Tensor
    num_images: int
    contrastive: Tensor | None = None


def step_losses(
    forward: nn.Module,
    batch: Batch,
    train: TrainParams,
    seed: int,
    step: int,
    worker: Worker,
    online: OnlineTeacher | None = None,
    *,
    task: Task,
) -> Losses:
    """The losses on this worker's part of global batch `step`.

    network's logits: (n, K, …), a distribution for each unit of the task.
    train.precision: float32 or bfloat16, auto decided; `online`: who labels the weak view of the
    unlabelled images, where the batch has one.
    """
    noised, targets, counts = batch.noised, None, None
    if online is not None and batch.weak is not None:
        noised, targets, counts = _taught_online(batch, train, worker, online, task)
    views = [batch.labeled.images, noised, batch.second]
    images = torch.cat([view for view in views if view is not None])
    reading: AbstractContextManager[list[Tensor]] = nullcontext([])
    if batch.second is not None:
        reading = features_read(getattr(forward, "module", forward))
    # A block of its own: within one, torch keeps the weights as the teacher's pass has cast them.
    with (
        model_noise(seed, step, worker.rank, worker.device),
        passes_in(train.precision, worker.device),
        reading as features,
    ):
        logits = forward(images).float()
    count = len(batch.labeled.images)
    total = labeled = _labeled_loss(logits[:count], batch.labeled, train, task)
    pseudo = coverage = logits.new_zeros(())
    if noised is not None:
        if targets is None:
            assert batch.targets is not None
            targets, counts = task.taught(batch.targets, logits.shape[1])
        pseudo = pseudo_label_loss(
            logits[count : count + len(noised)],
            targets,
            temperature=train.distillation_temperature,
            counts=counts,
        )
        total = labeled + train.unlabeled_weight * pseudo
        coverage = logits.new_ones(()) if counts is None else counts.mean()
    contrastive = None
    if batch.second is not None:
        first, second = features[0][count:].chunk(2)
        contrastive = contrastive_loss(first, second, temperature=train.contrastive_temperature)
        total = total + train.contrastive_weight * contrastive
    return Losses(total, labeled, pseudo, coverage, len(images), contrastive)


def _taught_online(
    batch: Batch, train: TrainParams, worker: Worker, online: OnlineTeacher, task: Task
) -> tuple[Tensor, Tensor, Tensor]:
    """The noised images, what the online teacher says of their weak views, and how much it counts,
    moved and mixed as they are."""
    assert batch.noised is not None
    assert batch.weak is not None
    with passes_in(train.precision, worker.device):
        targets, counts = online.targets(batch.weak, batch.known)
    noised, move = batch.noised, partial(_moved, batch.move)
    both = [task.undo(each, move) for each in (targets, counts[:, None])]
    if batch.mix is not None:
        noised, both = batch.mix(noised, both)
    return noised, both[0], both[1][:, 0]


def _moved(move: Warp | None, values: Tensor) -> Tensor:
    """Values (n, M, S, S) moved; 0 where nothing is known."""
    if move is None:
        return values
    moved, known = move.apply(values)
    return moved * known[:, None]


def _labeled_loss(logits: Tensor, batch: LabeledBatch, train: TrainParams, task: Task) -> Tensor:
    classes = task.classes(batch.labels)
    loss = labeled_loss(logits, classes, label_smoothing=train.label_smoothing)
    if batch.taught is None:
        return loss
    shares, counts = task.taught(batch.taught, logits.shape[1])
    temperature = train.distillation_temperature
    taught = distillation_loss(logits, shares, temperature=temperature, counts=counts)
    return (1 - train.distillation_weight) * loss + train.distillation_weight * taught


@contextmanager
def model_noise(seed: int, step: int, rank: int, device: torch.device) -> Iterator[None]:
    """In the block the default generators draw what (seed, step, rank) decides.

    Afterwards they are as they were before.
    """
    sequence = np.random.SeedSequence([2, seed, step, rank])  # 0 and 1 are the batches' streams
    noise = int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(noise)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(noise)
        yield
