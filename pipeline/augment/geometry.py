"""Move pixels: one 3 x 3 matrix for each image, and one resampling for any chain of them.

A matrix maps a place in the output to the place in the input whose colour it takes. Both are
in pixels from the centre of their image, x to the right and y down. A chain "first A, then B"
is therefore the product `A @ B`. What is no matrix is a displacement of each pixel.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Padding = Literal["zeros", "border", "reflection"]
KNOTS = 5  # random vectors along each side of a displacement
SMOOTHNESS = 0.15  # standard deviation of its smoothing, share of the side; Simard's is 4 / 29


def affine_matrix(
    *,
    angle: Tensor | None = None,
    shear_x: Tensor | None = None,
    shear_y: Tensor | None = None,
    translate_x: Tensor | None = None,
    translate_y: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """Rotation, shear and scaling about the centre, then translation, each (N,): (N, 3, 3).

    `angle`: degrees, counter-clockwise; `shear_x`, `shear_y`: tangents; `translate_x`,
    `translate_y`: pixels to the right and down; `scale`: above 1 enlarges. What is None is left
    out; at least one is given.
    """
    values = (angle, shear_x, shear_y, translate_x, translate_y, scale)
    zero = torch.zeros_like(next(value for value in values if value is not None))
    radians = zero if angle is None else angle.deg2rad()
    inverse = 1.0 if scale is None else scale.reciprocal()
    cos, sin = radians.cos() * inverse, radians.sin() * inverse
    across, along, x, y = (zero if value is None else value for value in values[1:5])
    # Linear part: rotation by -angle times the shear; then the shift is taken back first.
    a, b = cos - sin * along, cos * across - sin
    c, d = sin + cos * along, sin * across + cos
    rows = (a, b, -a * x - b * y, c, d, -c * x - d * y, zero, zero, torch.ones_like(zero))
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def perspective_matrix(start: Tensor, end: Tensor) -> Tensor:
    """The matrix that carries the four points `start` of the input to `end` of the output.

    `start`, `end`: (N, 4, 2), x and y in pixels from the centre, no three on a line; gives
    (N, 3, 3).
    """
    (u, v), (x, y) = start.unbind(-1), end.unbind(-1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    first = torch.stack((x, y, one, zero, zero, zero, -u * x, -u * y), dim=-1)
    second = torch.stack((zero, zero, zero, x, y, one, -v * x, -v * y), dim=-1)
    # In float64: the products of coordinates differ from 1 by up to the square of the side.
    equations = torch.cat((first, second), dim=1).double()
    values = torch.linalg.solve(equations, torch.cat((u, v), dim=1).double())
    ones = values.new_ones(len(values), 1)
    return torch.cat((values, ones), dim=1).view(-1, 3, 3).to(start.dtype)


def displacement(knots: Tensor, strength: Tensor, height: int, width: int) -> Tensor:
    """A smooth field of displacements: (N, 2, H, W), x and y in the unit of `strength`.

    knots: (N, 2, K, K) random vectors on a K x K grid over the image, corner to corner. Each
    pixel's displacement is the sum of all of them under Gaussian weights that have a sum of
    squares of 1: standard normal knots give every pixel displacements with a standard deviation
    of exactly `strength` (N,). Simard et al. 2003 draw a vector for every pixel; after smoothing, a
    grid as fine as the smoothing gives the same kind of field for a fraction of the draws.
    """
    down = _knot_weights(height, knots.shape[-2], knots)
    across = _knot_weights(width, knots.shape[-1], knots)
    scaled = knots * strength.to(knots.device)[:, None, None, None]
    return down @ scaled @ across.T


def _knot_weights(side: int, count: int, like: Tensor) -> Tensor:
    """What each knot along a side weighs at each pixel: (side, count), rows of norm 1."""
    pixels = torch.linspace(0, 1, side, device=like.device, dtype=like.dtype)
    places = torch.linspace(0, 1, count, device=like.device, dtype=like.dtype)
    distance = (pixels[:, None] - places) / SMOOTHNESS
    weights = torch.exp(-0.5 * distance.square())
    return weights / weights.square().sum(dim=1, keepdim=True).sqrt()


def resample(
    images: Tensor,
    matrices: Tensor,
    *,
    displacement: Tensor | None = None,
    projective: bool = False,
    padding: Padding = "zeros",
) -> Tensor:
    """Take each output pixel from where its image's matrix says, bilinearly.

    images: (N, C, H, W) float; matrices: (N, 3, 3), on any device; displacement: (N, 2, H, W), x
    and y in pixels, added to the places in the input. `projective`: whether last rows other than
    (0, 0, 1) occur.
    """
    grid = _places(matrices.to(images.device), images.shape[-2], images.shape[-1], projective)
    if displacement is not None:
        grid[:, 0].add_(displacement[:, 0], alpha=2 / images.shape[-1])
        grid[:, 1].add_(displacement[:, 1], alpha=2 / images.shape[-2])
    return sample(images, grid, padding)


def sample(images: Tensor, grid: Tensor, padding: Padding) -> Tensor:
    """torch's grid_sample with its places as (N, 2, H, W)."""
    places = grid.to(images.dtype).permute(0, 2, 3, 1)
    return F.grid_sample(images, places, padding_mode=padding, align_corners=False)


def _places(matrices: Tensor, height: int, width: int, projective: bool) -> Tensor:
    """Where each output pixel looks, in grid_sample's units of half the side: (N, 2, H, W)."""
    x = torch.arange(width, device=matrices.device) - (width - 1) / 2
    y = (torch.arange(height, device=matrices.device) - (height - 1) / 2)[:, None]
    terms = matrices[..., None, None]
    grid = matrices.new_empty(len(matrices), 2, height, width)
    for axis, side in enumerate((width, height)):
        row = terms[:, axis] * (2 / side)
        torch.add(row[:, 0] * x + row[:, 2], row[:, 1] * y, out=grid[:, axis])
    if projective:
        last = terms[:, 2]
        grid /= (last[:, 0] * x + last[:, 1] * y + last[:, 2])[:, None]
    return grid
