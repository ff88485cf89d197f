"""Colour operations that look at all values of a channel first: equalize and autocontrast."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.augment.colour import as_levels


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel so that its darkest value is black and its brightest white.

    images: (N, C, H, W) float in [0, 1] or uint8. A channel of one value is unchanged.
    """
    white = 255.0 if images.dtype == torch.uint8 else 1.0
    dtype = images.dtype if images.is_floating_point() else torch.float32
    # Both by themselves: on uint8 many times faster than aminmax.
    low = images.amin(dim=(2, 3), keepdim=True).to(dtype)
    high = images.amax(dim=(2, 3), keepdim=True).to(dtype)
    flat = high == low
    low = low.masked_fill(flat, 0)
    scale = white / (high - low).masked_fill(flat, white)
    values = images if images.is_floating_point() else images.float()
    values = (values - low).mul_(scale).clamp_(0, white)
    return values if images.is_floating_point() else as_levels(values)


def equalize(images: Tensor) -> Tensor:
    """Spread each channel's values evenly over the range, by Pillow's rule.

    images: (N, C, H, W) uint8, or float in [0, 1], which is brought to 256 levels. A channel
    whose values leave no step between levels is unchanged.
    """
    if images.is_floating_point():
        levels = as_levels(images * 255.999)
        return equalize(levels).to(images.dtype).div_(255)
    channels = images.shape[0] * images.shape[1]
    # Where each value stands in a row of 256 levels for every channel, one after the other.
    rows = torch.arange(0, 256 * channels, 256, dtype=torch.int32, device=images.device)
    places = (images.int() + rows.view(*images.shape[:2], 1, 1)).flatten()
    table = _equalizing_table(_counts(places, 256 * channels).view(*images.shape[:2], 256))
    return table.flatten().index_select(0, places).view_as(images)


def _counts(places: Tensor, length: int) -> Tensor:
    """How often each of 0 … length - 1 occurs: (length,) int64."""
    if places.device.type == "cpu":
        return torch.bincount(places, minlength=length)
    counts = places.new_zeros(length, dtype=torch.int64)  # bincount waits for the GPU
    return counts.index_add_(0, places, counts.new_ones(1).expand(len(places)))


def _equalizing_table(counts: Tensor) -> Tensor:
    """The new level of each level, of Pillow's ImageOps.equalize: (N, C, 256) uint8."""
    total = counts.cumsum(2)
    brightest = total.argmax(2, keepdim=True)
    step = (total[..., -1:] - counts.gather(2, brightest)).div_(255, rounding_mode="floor")
    # A level's new value counts the pixels darker than it.
    table = (total - counts + step // 2).div_(step.clamp(min=1), rounding_mode="floor")
    same = torch.arange(256, device=counts.device)
    return torch.where(step > 0, table.clamp_(0, 255), same).to(torch.uint8)
