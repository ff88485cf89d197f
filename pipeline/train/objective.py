"""What one training step minimises: the losses on a labelled and a pseudo-labelled batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.models.parts import all_logits, features_read, total_loss
from pipeline.params import TrainParams
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

    Of a network with auxiliary classifiers the parts are those of the main one. kept: the share of
    the unlabelled images of which the teacher was sure enough; num_images: of this worker;
    contrastive: None where no views are contrasted.
    """

    total: Tensor
    labeled: Tensor
    pseudo: Tensor
    kept: Tensor
    num_images: int
    contrastive: Tensor | None = None


class UnlabeledBatch(NamedTuple):
    """images: (m, C, S, S) normalised; targets: (m, K) probabilities; kept: (m,), how much of
    each counts, None for all."""

    images: Tensor
    targets: Tensor
    kept: Tensor | None


def step_losses(
    forward: nn.Module,
    batch: Batch,
    train: TrainParams,
    seed: int,
    step: int,
    worker: Worker,
    online: OnlineTeacher | None = None,
) -> Losses:
    """The losses on this worker's part of global batch `step`.

    train.precision: float32 or bfloat16, auto decided; `online`: who labels the weak view of the
    unlabelled images, where the batch has one.
    """
    with passes_in(train.precision, worker.device):
        unlabeled, images = _unlabeled(batch, online), batch.labeled.images
    if unlabeled is not None:
        images = torch.cat([images, unlabeled.images])
    seen = len(images)
    reading: AbstractContextManager[list[Tensor]] = nullcontext([])
    if batch.second is not None:
        images = torch.cat([images, batch.second])
        reading = features_read(getattr(forward, "module", forward))
    # A block of its own: within one, torch keeps the weights as the teacher's pass has cast them.
    with (
        model_noise(seed, step, worker.rank, worker.device),
        passes_in(train.precision, worker.device),
        reading as features,
    ):
        heads = [logits.float() for logits in all_logits(forward(images))]
    losses = [_head_losses(logits[:seen], batch.labeled, unlabeled, train) for logits in heads]
    whole = losses[0]._replace(total=total_loss([loss.total for loss in losses]))
    if batch.second is None:
        return whole
    first, second = features[0][seen - len(batch.second) : seen], features[0][seen:]
    contrast = contrastive_loss(first, second, temperature=train.contrastive_temperature)
    total = whole.total + train.contrastive_weight * contrast
    return whole._replace(total=total, contrastive=contrast, num_images=len(images))


def _unlabeled(batch: Batch, online: OnlineTeacher | None) -> UnlabeledBatch | None:
    """The unlabelled images with their targets: those stored, or what the online teacher says."""
    if batch.noised is None:
        return None
    if online is None:
        assert batch.targets is not None
        return UnlabeledBatch(batch.noised, batch.targets, kept=None)
    assert batch.weak is not None
    return UnlabeledBatch(batch.noised, *online.targets(batch.weak))


def _head_losses(
    logits: Tensor, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, train: TrainParams
) -> Losses:
    """The losses of one classifier's logits, (n + m, K)."""
    count = len(labeled.images)
    first = _labeled_loss(logits[:count], labeled, train)
    if unlabeled is None:
        nothing = logits.new_zeros(())
        return Losses(first, first, nothing, nothing, count)
    second = pseudo_label_loss(
        logits[count:],
        unlabeled.targets,
        temperature=train.distillation_temperature,
        counts=unlabeled.kept,
    )
    kept = logits.new_ones(()) if unlabeled.kept is None else unlabeled.kept.mean()
    return Losses(first + train.unlabeled_weight * second, first, second, kept, len(logits))


def _labeled_loss(logits: Tensor, batch: LabeledBatch, train: TrainParams) -> Tensor:
    loss = labeled_loss(logits, batch.labels, label_smoothing=train.label_smoothing)
    if batch.taught is None:
        return loss
    taught = distillation_loss(logits, batch.taught, temperature=train.distillation_temperature)
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
