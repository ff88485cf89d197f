"""Local smooth warps: Gaussian-smoothed random displacements (Simard et al. 2003)."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.augment.geometry import affine_matrix, resample

KNOTS = 5  # random vectors along each side
SMOOTHNESS = 0.15  # standard deviation of the smoothing, share of the side; Simard's is 4 / 29


def displacement(knots: Tensor, strength: Tensor, height: int, width: int) -> Tensor:
    """A smooth field of displacements: (N, 2, H, W), x and y in the unit of `strength`.

    knots: (N, 2, K, K) random vectors on a K x K grid over the image, corner to corner. Each
    pixel's displacement is the sum of all of them under Gaussian weights that have a sum of
    squares of 1: standard normal knots give every pixel displacements with a standard deviation
    of exactly `strength` (N,). Simard et al. draw a vector for every pixel; after smoothing, a
    grid as fine as the smoothing gives the same kind of field for a fraction of the draws.
    """
    down = _weights(height, knots.shape[-2], knots)
    across = _weights(width, knots.shape[-1], knots)
    scaled = knots * strength.to(knots.device)[:, None, None, None]
    return down @ scaled @ across.T


def elastic(images: Tensor, knots: Tensor, strength: Tensor) -> Tensor:
    """Warp locally; see `displacement`; `strength`: (N,) pixels."""
    height, width = images.shape[-2:]
    field = displacement(knots.to(images.device), strength, height, width)
    still = affine_matrix(scale=torch.ones(len(images), device=images.device))
    return resample(images, still, displacement=field)


def _weights(side: int, count: int, like: Tensor) -> Tensor:
    """What each knot along a side weighs at each pixel: (side, count), rows of norm 1."""
    pixels = torch.linspace(0, 1, side, device=like.device, dtype=like.dtype)
    places = torch.linspace(0, 1, count, device=like.device, dtype=like.dtype)
    distance = (pixels[:, None] - places) / SMOOTHNESS
    weights = torch.exp(-0.5 * distance.square())
    return weights / weights.square().sum(dim=1, keepdim=True).sqrt()
