"""Erase a rectangle of each image, or of some."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.augment.crop import crop_boxes
from pipeline.augment.draws import Draws


def inside_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Which pixels lie in each box: (N, 1, H, W) bool.

    boxes: (N, 4) whole pixels: top, left, bottom, right; the last two are outside the box.
    """
    top, left, bottom, right = boxes.view(-1, 4, 1).unbind(1)
    y = torch.arange(height, device=boxes.device)
    x = torch.arange(width, device=boxes.device)
    rows = (y >= top) & (y < bottom)
    columns = (x >= left) & (x < right)
    return rows[:, None, :, None] & columns[:, None, None, :]


def erase(images: Tensor, boxes: Tensor, value: Tensor | None = None) -> Tensor:
    """Fill each image's box with its `value`.

    images: (N, C, H, W) float or uint8; boxes: see inside_boxes; value: (N, C) or (N, 1) in the
    images' unit; None: the image's own mean colour, which tells a network least.
    """
    if value is None:
        value = images.mean(dim=(2, 3), dtype=torch.float32)
    value = value.to(images)[:, :, None, None]
    return torch.where(inside_boxes(boxes.to(images.device), *images.shape[-2:]), value, images)


def cutout(images: Tensor, draws: Draws, *, side: float) -> Tensor:
    """Erase a square whose centre is any pixel (DeVries and Taylor 2017).

    `side`: share of the image's shorter side; what reaches over the edge is cut off.
    """
    height, width = images.shape[-2:]
    length = round(side * min(height, width))
    top = draws.integers(height) - length // 2
    left = draws.integers(width) - length // 2
    return erase(images, torch.stack((top, left, top + length, left + length), dim=1))


def random_erasing(
    images: Tensor,
    draws: Draws,
    *,
    chance: float,
    area: tuple[float, float] = (0.02, 1 / 3),
    aspect: tuple[float, float] = (0.3, 10 / 3),
) -> Tensor:
    """Erase a random rectangle of some images (Zhong et al. 2020).

    images: (N, C, H, W) float or uint8. `chance`: of each image, in [0, 1]; `area`, `aspect`: see
    crop_boxes; the rectangle lies inside the image and is filled with the image's mean colour.
    """
    chosen = draws.host.uniform() < chance
    boxes = crop_boxes(draws, images.shape[-2], images.shape[-1], area, aspect)
    return erase(images, boxes * chosen[:, None])
