"""Mix pairs of images and their labels: MixUp and CutMix.

The partner of image i of N is image (i + N // 2) mod N of the same tensor. Batches are drawn at
random, so any fixed pairing is a random one; this one pairs the same images of a global batch
for every number of workers, as long as each worker, holding every world_size-th image, has an
even number of them. Mix labelled and pseudo-labelled images apart, or as one shuffled batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pipeline.augment.draws import Draws
from pipeline.augment.erase import inside_boxes


def mixup(
    images: Tensor, targets: Tensor, draws: Draws, *, alpha: float = 0.2
) -> tuple[Tensor, Tensor]:
    """Average each image and its target with a partner's (Zhang et al. 2018).

    images: (N, C, H, W) float or uint8; targets: (N, K) probabilities. The share of each image
    itself is Beta(alpha, alpha), `alpha` above 0.
    """
    own = draws.beta(alpha)
    return blend(images, targets, partners(images), partners(targets), own)


def cutmix(
    images: Tensor, targets: Tensor, draws: Draws, *, alpha: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Paste a box of a partner into each image; targets mix by area (Yun et al. 2019).

    images: (N, C, H, W) any type; targets: (N, K) probabilities. A box has a share
    1 - Beta(alpha, alpha) of the area, the image's shape and its centre anywhere; what reaches
    over the edge is cut off and does not count.
    """
    boxes = cutmix_boxes(draws, alpha, images.shape[-2], images.shape[-1])
    return paste(images, targets, partners(images), partners(targets), boxes)


def mix(
    images: Tensor,
    targets: Tensor,
    draws: Draws,
    *,
    kind: Literal["mixup", "cutmix", "both"],
    alpha: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """MixUp, CutMix, or for each image one of the two with equal chances, as `kind` says."""
    if kind == "mixup":
        return mixup(images, targets, draws, alpha=alpha)
    if kind == "cutmix":
        return cutmix(images, targets, draws, alpha=alpha)
    averaged = draws.uniform() < 0.5
    first, first_targets = mixup(images, targets, draws, alpha=alpha)
    second, second_targets = cutmix(images, targets, draws, alpha=alpha)
    return (
        torch.where(averaged[:, None, None, None], first, second),
        torch.where(averaged[:, None], first_targets, second_targets),
    )


def partners(values: Tensor) -> Tensor:
    """Each row's partner: see the module's first lines."""
    return values.roll(-(len(values) // 2), dims=0)


def blend(
    images: Tensor, targets: Tensor, others: Tensor, other_targets: Tensor, own: Tensor
) -> tuple[Tensor, Tensor]:
    """`own` (N,) times the images and targets plus 1 - `own` times the others."""
    own = own.to(images.device)
    share = own.view(-1, 1, 1, 1)
    mixed = images * share + others * (1 - share)
    if not images.is_floating_point():
        mixed = mixed.round_()
    return mixed.to(images.dtype), _mixed_targets(targets, other_targets, own)


def paste(
    images: Tensor, targets: Tensor, others: Tensor, other_targets: Tensor, boxes: Tensor
) -> tuple[Tensor, Tensor]:
    """The others inside `boxes` (N, 4: see inside_boxes), the images around them."""
    height, width = images.shape[-2:]
    inside = inside_boxes(boxes.to(images.device), height, width)
    own = 1 - inside.float().mean(dim=(1, 2, 3))
    return torch.where(inside, others, images), _mixed_targets(targets, other_targets, own)


def cutmix_boxes(draws: Draws, alpha: float, height: int, width: int) -> Tensor:
    """Random boxes, as paste takes them: (N, 4) int64, cut off at the edges."""
    side = (1 - draws.beta(alpha)).sqrt()
    rows, columns = (side * height).long(), (side * width).long()
    top = draws.integers(height) - rows // 2
    left = draws.integers(width) - columns // 2
    corners = torch.stack((top, left, top + rows, left + columns), dim=1).clamp_(min=0)
    return torch.minimum(corners, corners.new_tensor([height, width, height, width]))


def _mixed_targets(targets: Tensor, others: Tensor, own: Tensor) -> Tensor:
    share = own.to(targets)[:, None]
    return targets * share + others * (1 - share)
