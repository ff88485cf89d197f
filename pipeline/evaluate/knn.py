"""Classify images by their nearest labelled ones in a network's features: no training, a reference.

The vote is that of Wu et al. 2018, sec. 3.4: the k labelled images of the largest cosine similarity
s each count exp(s / 0.07). A classifier that does worse is not worth its features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.data.sliced import LabeledImages
from pipeline.evaluate.neighbors import nearest_neighbors
from pipeline.models.parts import batched_features

TEMPERATURE = 0.07  # Wu et al. 2018


def knn_votes(
    labeled_features: Tensor,
    labels: Tensor,
    features: Tensor,
    *,
    num_neighbors: int,
    num_classes: int,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """The share of the vote that each class has for each image: (M, K) float32, rows sum to 1.

    labeled_features: (N, F), labels: (N,) int64; features: (M, F). All N vote where there are
    fewer than `num_neighbors`. A feature of length 0 is as near to one as to another.
    """
    cosines, rows = nearest_neighbors(
        labeled_features.cpu().numpy(),
        num_neighbors,
        queries=features.cpu().numpy(),
        threads=torch.get_num_threads(),
        exact_images=len(labels),
    )
    # Less the largest: the shares are the same, and nothing overflows.
    weights = torch.from_numpy(np.exp((cosines - cosines[:, :1]) / temperature))
    votes = torch.zeros(len(features), num_classes)
    votes.scatter_add_(1, labels.cpu()[torch.from_numpy(rows)], weights)
    return votes / votes.sum(dim=1, keepdim=True)


def knn_accuracy(
    labeled_features: Tensor,
    labels: Tensor,
    features: Tensor,
    truth: Tensor,
    *,
    num_neighbors: int,
) -> float:
    """Share of the images whose class has the largest vote; of equal votes the first counts."""
    num_classes = int(torch.cat([labels, truth]).max()) + 1
    votes = knn_votes(
        labeled_features, labels, features, num_neighbors=num_neighbors, num_classes=num_classes
    )
    return float((votes.argmax(dim=1) == truth.cpu()).float().mean())


def network_knn_accuracy(
    network: nn.Module,
    labeled: LabeledImages,
    test: LabeledImages,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    neighbors: int,
    batch_size: int,
) -> float:
    """knn_accuracy on `test` by the images of `labeled`, seen as they are by `network`.

    mean, std: per channel, of [0, 1]. The network may be on any device.
    """
    device = next(network.parameters()).device

    def features_of(part: LabeledImages) -> Tensor:
        slices = (part.images[at : at + batch_size] for at in range(0, len(part), batch_size))
        return torch.cat(
            [
                batched_features(
                    network, images.to(device), mean=mean, std=std, batch_size=batch_size
                ).cpu()
                for images in slices
            ]
        )

    labeled_features, features = features_of(labeled), features_of(test)
    return knn_accuracy(
        labeled_features, labeled.labels, features, test.labels, num_neighbors=neighbors
    )
