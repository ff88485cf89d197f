"""A rectangle of each image: cut out and resized, or erased.

Boxes: (N, 4) int64 whole pixels: top, left, bottom, right, the last two outside the box.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipeline.augment.draws import Draws
from pipeline.augment.geometry import sample
from pipeline.augment.warp import Warp

Range = tuple[float, float]


def crop_boxes(draws: Draws, height: int, width: int, area: Range, aspect: Range) -> Tensor:
    """Random boxes inside the image: Inception's crop (Szegedy et al. 2015).

    `area`: share of the image's area, uniform; `aspect`: width over height, uniform in its
    logarithm. A box too wide or too high is cut to the image.
    """
    share, shape, down, across = draws.uniform(4).unbind(1)
    pixels = height * width * (area[0] + (area[1] - area[0]) * share)
    low, high = math.log(aspect[0]), math.log(aspect[1])
    ratio = torch.exp(low + (high - low) * shape)
    rows = (pixels / ratio).sqrt().round().clamp_(1, height)
    columns = (pixels * ratio).sqrt().round().clamp_(1, width)
    top = (down * (height - rows + 1)).floor()
    left = (across * (width - columns + 1)).floor()
    return torch.stack((top, left, top + rows, left + columns), dim=1).long()


def resized_crop(images: Tensor, boxes: Tensor) -> Tensor:
    """Cut out each image's box and resize it to the image's size, bilinearly, without smoothing."""
    height, width = images.shape[-2:]
    top, left, bottom, right = boxes.to(images.device, torch.float32).unbind(1)
    y = _places(top, bottom, height)[:, :, None].expand(-1, height, width)
    x = _places(left, right, width)[:, None, :].expand(-1, height, width)
    return sample(images, torch.stack((x, y), dim=1), "border")


def _places(first: Tensor, end: Tensor, side: int) -> Tensor:
    """Where `side` pixels look between `first` and `end`, in grid_sample's unit: (N, side)."""
    steps = (torch.arange(side, device=first.device) + 0.5) / side
    places = first[:, None] + (end - first)[:, None] * steps - 0.5
    # Within the centres of the box's pixels: nothing outside the box is mixed in.
    places = torch.minimum(torch.maximum(places, first[:, None]), end[:, None] - 1)
    return (2 * places + 1) / side - 1


def inside_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Which pixels lie in each box: (N, 1, H, W) bool."""
    top, left, bottom, right = boxes.view(-1, 4, 1).unbind(1)
    y = torch.arange(height, device=boxes.device)
    x = torch.arange(width, device=boxes.device)
    rows = (y >= top) & (y < bottom)
    columns = (x >= left) & (x < right)
    return rows[:, None, :, None] & columns[:, None, None, :]


def erase(images: Tensor, boxes: Tensor, warp: Warp | None = None) -> Tensor:
    """Fill each image's box with its own mean colour, which tells a network least.

    `warp` records that it is gone.
    """
    if warp is not None:
        warp.erase(boxes)
    mean = images.mean(dim=(2, 3), keepdim=True)
    return torch.where(inside_boxes(boxes.to(images.device), *images.shape[-2:]), mean, images)


def cutout(images: Tensor, draws: Draws, *, side: float, warp: Warp | None = None) -> Tensor:
    """Erase a square whose centre is any pixel (DeVries and Taylor 2017).

    `side`: share of the image's shorter side; what reaches over the edge is cut off.
    """
    height, width = images.shape[-2:]
    length = round(side * min(height, width))
    top = draws.integers(height) - length // 2
    left = draws.integers(width) - length // 2
    boxes = torch.stack((top, left, top + length, left + length), dim=1)
    return erase(images, boxes, warp)


def random_erasing(
    images: Tensor,
    draws: Draws,
    *,
    chance: float,
    area: Range = (0.02, 1 / 3),
    warp: Warp | None = None,
) -> Tensor:
    """Erase a random rectangle inside some images (Zhong et al. 2020).

    `chance`: of each image, in [0, 1]; `area`: see crop_boxes.
    """
    erased = draws.uniform() < chance
    boxes = crop_boxes(draws, images.shape[-2], images.shape[-1], area, (0.3, 10 / 3))
    return erase(images, boxes * erased[:, None], warp)
