"""The losses of teacher and student."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100  # in place of a class: the unit does not count


def labeled_loss(logits: Tensor, labels: Tensor, *, label_smoothing: float) -> Tensor:
    """Mean cross-entropy of logits (N, K, …) to labels, smoothed (Szegedy et al. 2016).

    labels: (N, …) int64, IGNORED where nothing is known, or probabilities (N, K, …). 0 where
    nothing is known of anything.
    """
    if labels.is_floating_point():
        logits = resized(logits, labels.shape[2:])
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    nothing = (labels == IGNORED).all()
    loss = F.cross_entropy(
        resized(logits, labels.shape[1:]),
        labels.masked_fill(nothing, 0),
        ignore_index=IGNORED,
        label_smoothing=label_smoothing,
    )
    return loss * ~nothing


def resized(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Logits (N, K, …) at the size of what they are compared with, bilinearly."""
    if logits.shape[2:] == torch.Size(size):
        return logits
    return F.interpolate(logits, size, mode="bilinear")


def pseudo_label_loss(
    logits: Tensor, targets: Tensor, *, temperature: float = 1.0, counts: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy of logits (N, K, …) to probabilities (N, K, …) (Xie et al. 2020, eq. 2).

    It is KL(target ‖ student) plus the targets' entropy, which has no gradient. A hard
    pseudo-label is a row with one 1. counts: (N, …), how much of each counts, None for all; the
    mean is over all. `temperature`: see distillation_loss.
    """
    softened, logits = soften(targets, temperature), resized(logits, targets.shape[2:])
    each = -(softened * torch.log_softmax(logits / temperature, dim=1)).sum(dim=1)
    if counts is not None:
        each = each * counts
    return temperature**2 * each.mean()


def distillation_loss(
    logits: Tensor, taught: Tensor, *, temperature: float, counts: Tensor | None = None
) -> Tensor:
    """Mean of T² · KL(teacher ‖ student), both softened by the temperature T (Hinton et al. 2015).

    logits: the student's, (N, K, …); taught: the teacher's probabilities, (N, K, …); counts: see
    pseudo_label_loss. T² keeps the gradient's scale.
    """
    logits = resized(logits, taught.shape[2:])
    student = torch.log_softmax(logits / temperature, dim=1)
    teacher = soften(taught, temperature)
    each = F.kl_div(student, teacher, reduction="none")
    if counts is not None:
        each = each * counts[:, None]
    return temperature**2 * (each.sum() / (each.numel() // each.shape[1]))


def contrastive_loss(first: Tensor, second: Tensor, *, temperature: float) -> Tensor:
    """Mean over 2n views of -log of the share that the other view of the same image has in
    Σ exp(cos / T) over all other views (NT-Xent, Chen et al. 2020, eq. 1).

    first, second: features of two views of the same n images, (n, F) each.
    """
    views = F.normalize(torch.cat([first, second]), dim=1)
    likeness = views @ views.T / temperature
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    other = torch.arange(len(views), device=views.device).roll(len(first))
    return F.cross_entropy(likeness.masked_fill(itself, -torch.inf), other)


def soften(probabilities: Tensor, temperature: float) -> Tensor:
    """softmax(logits / temperature) from softmax(logits), (N, K, …), for any such logits."""
    if temperature == 1:
        return probabilities
    relative = probabilities / probabilities.amax(dim=1, keepdim=True)
    powered = relative ** (1 / temperature)
    return powered / powered.sum(dim=1, keepdim=True)
