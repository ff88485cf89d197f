"""Mix pairs of images and their labels: MixUp, CutMix and ClassMix.

The partner of image i of N is image (i + N // 2) mod N of the same tensor. Batches are drawn at
random, so any fixed pairing is a random one; this one pairs the same images of a global batch
for every number of workers, as long as each worker, holding every world_size-th image, has an
even number of them. Mix labelled and pseudo-labelled images apart, or as one shuffled batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.augment.boxes import inside_boxes
from pipeline.augment.draws import Draws

Pair = tuple[Tensor, Tensor]  # images (N, C, H, W) and their targets, probabilities (N, K)


def mix(
    images: Tensor,
    targets: Tensor,
    draws: Draws,
    *,
    kind: Literal["mixup", "cutmix", "both"],
    alpha: float,
) -> Pair:
    """MixUp, CutMix, or for each image one of the two with equal chances, as `kind` says."""
    pair = (images, targets)
    if kind == "mixup":
        return mixup(pair, draws, alpha)
    if kind == "cutmix":
        return cutmix(pair, draws, alpha)
    averaged = (draws.uniform() < 0.5).to(images.device)
    first, first_targets = mixup(pair, draws, alpha)
    second, second_targets = cutmix(pair, draws, alpha)
    return (
        torch.where(averaged[:, None, None, None], first, second),
        torch.where(averaged[:, None], first_targets, second_targets),
    )


def mixup(pair: Pair, draws: Draws, alpha: float) -> Pair:
    """Average each image and its target with a partner's (Zhang et al. 2018).

    The share of each image itself is Beta(alpha, alpha), `alpha` above 0.
    """
    return blend(pair, partners(pair), draws.beta(alpha))


def cutmix(pair: Pair, draws: Draws, alpha: float) -> Pair:
    """Paste a box of a partner into each image; targets mix by area (Yun et al. 2019).

    A box has a share 1 - Beta(alpha, alpha) of the area, the image's shape and its centre
    anywhere; what reaches over the edge is cut off and does not count.
    """
    return paste(pair, partners(pair), cutmix_boxes(draws, alpha, *pair[0].shape[-2:]))


def cutmix_boxes(draws: Draws, alpha: float, height: int, width: int) -> Tensor:
    """Random boxes, cut off at the edges: (N, 4) int64."""
    side = (1 - draws.beta(alpha)).sqrt()
    rows, columns = (side * height).long(), (side * width).long()
    top = draws.integers(height) - rows // 2
    left = draws.integers(width) - columns // 2
    corners = torch.stack((top, left, top + rows, left + columns), dim=1).clamp_(min=0)
    return torch.minimum(corners, corners.new_tensor([height, width, height, width]))


def partners(pair: Pair) -> Pair:
    """Each row's partner: see the module's first lines."""
    half = len(pair[0]) // 2
    return pair[0].roll(-half, dims=0), pair[1].roll(-half, dims=0)


def blend(pair: Pair, other: Pair, own: Tensor) -> Pair:
    """`own` (N,) times the images and targets plus 1 - `own` times the others."""
    share = own.to(pair[0].device)[:, None, None, None]
    return pair[0] * share + other[0] * (1 - share), _mixed_targets(pair, other, own)


def paste(pair: Pair, other: Pair, boxes: Tensor) -> Pair:
    """The others inside `boxes` (see pipeline.augment.boxes), the images around them."""
    images = pair[0]
    inside = inside_boxes(boxes.to(images.device), *images.shape[-2:])
    own = 1 - inside.float().mean(dim=(1, 2, 3))
    return torch.where(inside, other[0], images), _mixed_targets(pair, other, own)


def mix_pixels(
    images: Tensor,
    targets: Sequence[Tensor],
    draws: Draws,
    *,
    kind: str,
    alpha: float,
    num_classes: int,
) -> tuple[Tensor, list[Tensor]]:
    """CutMix or ClassMix of images and of their targets a pixel, as paste_pixels has them.

    ClassMix goes by the first targets: classes, or (N, K, S, S) probabilities.
    """
    side = targets[0].shape[-1]
    if kind == "cutmix":
        boxes = cutmix_boxes(draws, alpha, side, side)
        return paste_pixels(images, targets, inside_boxes(boxes, side, side))
    if kind == "classmix":
        classes = targets[0].view(len(images), -1, side, side)
        classes = classes.argmax(dim=1) if classes.is_floating_point() else classes[:, 0]
        return paste_pixels(images, targets, classmix(classes, draws, num_classes))
    return images, list(targets)


def paste_pixels(
    images: Tensor, targets: Sequence[Tensor], inside: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """The partners' pixels and their targets where `inside` (N, 1, S, S) says.

    targets: (N, S, S) or (N, M, S, S); images: (N, C, s, s), a smaller s takes the nearest pixels.
    """
    half = len(images) // 2
    shown = nn.functional.interpolate(inside.float(), images.shape[-2:]) > 0.5
    mixed = torch.where(shown.to(images.device), images.roll(-half, dims=0), images)
    both = ((each, inside.to(each.device).view(_like(inside, each))) for each in targets)
    return mixed, [torch.where(place, each.roll(-half, dims=0), each) for each, place in both]


def _like(inside: Tensor, target: Tensor) -> list[int]:
    """The shape of `inside` (N, 1, S, S) that broadcasts over a target."""
    return [len(inside), *[1] * (target.dim() - 3), *inside.shape[2:]]


def classmix(classes: Tensor, draws: Draws, num_classes: int) -> Tensor:
    """The pixels of half of each partner's classes, any half alike (Olsson et al. 2021).

    classes: (N, S, S) of the images, of num_classes or more where unknown; gives (N, 1, S, S) bool.
    """
    other = classes.roll(-(len(classes) // 2), dims=0).flatten(1).long()
    known = other < num_classes
    other = other.masked_fill(~known, 0)
    present = torch.zeros(len(classes), num_classes, device=classes.device)
    present = present.scatter_add_(1, other, known.float()) > 0
    order = draws.uniform(num_classes).to(classes.device).masked_fill(~present, 2)
    chosen = order.argsort(dim=1).argsort(dim=1) < (present.sum(dim=1, keepdim=True) + 1) // 2
    return (chosen.gather(1, other) & known).view(len(classes), 1, *classes.shape[1:])


def _mixed_targets(pair: Pair, other: Pair, own: Tensor) -> Tensor:
    share = own.to(pair[1])[:, None]
    return pair[1] * share + other[1] * (1 - share)
