"""Small batches of images that look like something: gradients, shapes and noise."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.augment.draws import Draws

SEED = 5


def shares(count: int = 4, channels: int = 3, height: int = 20, width: int = 24) -> Tensor:
    """(count, channels, height, width) of 256 levels in [0, 1], smooth with some noise; each image
    different."""
    generator = torch.Generator().manual_seed(SEED)
    coarse = torch.rand(count, channels, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    noise = torch.rand(smooth.shape, generator=generator)
    return ((0.85 * smooth + 0.15 * noise) * 255).round() / 255


def draws(total: int, seed: int = SEED, rows: slice = slice(None)) -> Draws:
    """Fresh draws."""
    return Draws(seed, total, rows)


def most_apart(first: Tensor, second: Tensor) -> float:
    """The largest difference of two tensors of one type and shape."""
    assert first.dtype == second.dtype
    assert first.shape == second.shape
    return float((first.double() - second.double()).abs().max())
