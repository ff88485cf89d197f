"""Random crops brought to one size, each image its own box."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipeline.augment.draws import Draws
from pipeline.augment.geometry import sample


def random_resized_crop(
    images: Tensor,
    draws: Draws,
    *,
    size: int,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """Cut out a random box and resize it to (size, size): Inception's crop (Szegedy et al. 2015).

    images: (N, C, H, W) float or uint8. `area`: share of the image's area, uniform; `aspect`:
    width over height, uniform in its logarithm. A box too wide or too high is cut to the image.
    """
    boxes = crop_boxes(draws, images.shape[-2], images.shape[-1], area, aspect)
    return resized_crop(images, boxes, size, size)


def crop_boxes(
    draws: Draws,
    height: int,
    width: int,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> Tensor:
    """Random boxes inside the image: (N, 4) int64, top, left, bottom, right."""
    chosen, shape, down, across = draws.host.uniform(4).unbind(1)
    pixels = height * width * (area[0] + (area[1] - area[0]) * chosen)
    low, high = math.log(aspect[0]), math.log(aspect[1])
    ratio = torch.exp(low + (high - low) * shape)
    rows = (pixels / ratio).sqrt().round().clamp_(1, height)
    columns = (pixels * ratio).sqrt().round().clamp_(1, width)
    top = (down * (height - rows + 1)).floor()
    left = (across * (width - columns + 1)).floor()
    return torch.stack((top, left, top + rows, left + columns), dim=1).long()


def resized_crop(images: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """Cut out each image's box and resize it bilinearly, without smoothing: (N, C, height, width).

    images: (N, C, H, W) float or uint8; boxes: (N, 4) whole pixels: top, left, bottom, right,
    the last two outside the box.
    """
    top, left, bottom, right = boxes.to(images.device, torch.float32).unbind(1)
    y = _places(top, bottom, height, images.shape[-2])
    x = _places(left, right, width, images.shape[-1])
    count = len(images)
    grid = torch.stack(
        (x[:, None, :].expand(count, height, width), y[:, :, None].expand(count, height, width)),
        dim=1,
    )
    return sample(images, grid, "border")


def _places(first: Tensor, end: Tensor, count: int, side: int) -> Tensor:
    """Where `count` pixels look between `first` and `end`, in grid_sample's unit: (N, count)."""
    steps = (torch.arange(count, device=first.device) + 0.5) / count
    places = first[:, None] + (end - first)[:, None] * steps - 0.5
    # Within the centres of the box's pixels: nothing outside the box is mixed in.
    places = torch.minimum(torch.maximum(places, first[:, None]), end[:, None] - 1)
    return (2 * places + 1) / side - 1
