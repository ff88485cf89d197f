"""Classify images by their nearest labelled ones in a network's features: no training, a reference.

The vote is that of Wu et al. 2018, sec. 3.4: the k labelled images of the largest cosine similarity
s each count exp(s / 0.07). A classifier that does worse is not worth its
features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.tensors import ImageSet
from pipeline.models.parts import batched_features

TEMPERATURE = 0.07  # Wu et al. 2018
BATCH = 1024  # images compared at once: memory BATCH × labelled images × 4 bytes


def knn_votes(
    known: Tensor,
    labels: Tensor,
    asked: Tensor,
    *,
    neighbors: int,
    num_classes: int,
    temperature: float = TEMPERATURE,
    batch_size: int = BATCH,
) -> Tensor:
    """The share of the vote that each class has for each of `asked`: (M, K) float32, rows sum to 1.

    known: (N, F) features of labelled images and labels: (N,) int64; asked: (M, F). All N vote
    where there are fewer than `neighbors`. A feature of length 0 is as near to one as to another.
    """
    near, classes = F.normalize(known.float()), labels.to(known.device)
    count = min(neighbors, len(known))
    parts = [asked.new_zeros(0, num_classes, dtype=torch.float32)]
    for batch in torch.split(asked, batch_size):
        similarity, rows = (F.normalize(batch.float()) @ near.T).topk(count, dim=1)
        # Less the largest: the shares are the same, and nothing overflows.
        weights = torch.exp((similarity - similarity[:, :1]) / temperature)
        votes = weights.new_zeros(len(batch), num_classes)
        votes.scatter_add_(1, classes[rows], weights)
        parts.append(votes / votes.sum(dim=1, keepdim=True))
    return torch.cat(parts)


def knn_accuracy(
    known: Tensor, labels: Tensor, asked: Tensor, truth: Tensor, *, neighbors: int
) -> float:
    """Share of `asked` whose class has the largest vote; of equal votes the first class counts."""
    num_classes = int(torch.cat([labels, truth]).max()) + 1
    votes = knn_votes(known, labels, asked, neighbors=neighbors, num_classes=num_classes)
    return float((votes.argmax(dim=1) == truth.to(votes.device)).float().mean())


def network_knn_accuracy(
    network: nn.Module,
    labeled: ImageSet,
    test: ImageSet,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    neighbors: int,
    batch_size: int,
) -> float:
    """knn_accuracy on `test` by the images of `labeled`, seen as they are by `network`.

    mean, std: per channel, of [0, 1].
    """
    known, asked = (
        batched_features(network, part.images, mean=mean, std=std, batch_size=batch_size)
        for part in (labeled, test)
    )
    return knn_accuracy(known, labeled.labels, asked, test.labels, neighbors=neighbors)
