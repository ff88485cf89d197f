"""The losses of teacher and student."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def labeled_loss(logits: Tensor, labels: Tensor, *, label_smoothing: float) -> Tensor:
    """Mean cross-entropy of logits (N, K) to labels, smoothed (Szegedy et al. 2016).

    labels: (N,) int64, or (N, K) probabilities where images were mixed.
    """
    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)


def pseudo_label_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of logits (N, K) to probabilities (N, K) (Xie et al. 2020, eq. 2).

    It is KL(target ‖ student) plus the targets' entropy, which has no gradient. A hard
    pseudo-label is a row with one 1.
    """
    return -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
