"""Move pixels: one 3 x 3 matrix for each image, and one resampling for any chain of them.

A matrix maps a place in the output to the place in the input whose colour it takes. Both are
in pixels from the centre of their image, x to the right and y down. A chain "first A, then B"
is therefore the product `A @ B`.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.augment.colour import as_levels

Padding = Literal["zeros", "border", "reflection"]
Interpolation = Literal["bilinear", "nearest"]


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
    given = [x for x in (angle, shear_x, shear_y, translate_x, translate_y, scale) if x is not None]
    zero = torch.zeros_like(given[0])
    radians = zero if angle is None else angle.deg2rad()
    inverse = 1.0 if scale is None else scale.reciprocal()
    cos, sin = radians.cos() * inverse, radians.sin() * inverse
    across = zero if shear_x is None else shear_x
    along = zero if shear_y is None else shear_y
    x = zero if translate_x is None else translate_x
    y = zero if translate_y is None else translate_y
    # Linear part: rotation by -angle times the shear; then the shift is taken back first.
    a, b = cos - sin * along, cos * across - sin
    c, d = sin + cos * along, sin * across + cos
    one = torch.ones_like(zero)
    rows = (a, b, -a * x - b * y, c, d, -c * x - d * y, zero, zero, one)
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


def resample(
    images: Tensor,
    matrices: Tensor,
    *,
    displacement: Tensor | None = None,
    projective: bool = False,
    padding: Padding = "zeros",
    interpolation: Interpolation = "bilinear",
) -> Tensor:
    """Take each output pixel from where its image's matrix says.

    images: (N, C, H, W) float or uint8; matrices: (N, 3, 3), on any device; displacement:
    (N, 2, H, W), x and y in pixels, added to the places in the input. `projective`: whether last
    rows other than (0, 0, 1) occur. uint8 is rounded to the nearest level.
    """
    grid = _places(matrices.to(images.device), images.shape[-2], images.shape[-1], projective)
    if displacement is not None:
        grid[:, 0].add_(displacement[:, 0], alpha=2 / images.shape[-1])
        grid[:, 1].add_(displacement[:, 1], alpha=2 / images.shape[-2])
    return sample(images, grid, padding, interpolation)


def sample(
    images: Tensor, grid: Tensor, padding: Padding, interpolation: Interpolation = "bilinear"
) -> Tensor:
    """torch's grid_sample (align_corners=False) for uint8 images too; grid: (N, 2, H, W)."""
    source = images if images.is_floating_point() else images.float()
    places = grid.to(source.dtype).permute(0, 2, 3, 1)
    result = F.grid_sample(
        source, places, mode=interpolation, padding_mode=padding, align_corners=False
    )
    return result if images.is_floating_point() else as_levels(result.round_())


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


def rotate(images: Tensor, angle: Tensor) -> Tensor:
    """Rotate about the centre by `angle`: (N,) degrees counter-clockwise."""
    return resample(images, affine_matrix(angle=angle))


def shear_x(images: Tensor, shear: Tensor) -> Tensor:
    """Shear sideways about the centre by `shear`: (N,) tangents."""
    return resample(images, affine_matrix(shear_x=shear))


def shear_y(images: Tensor, shear: Tensor) -> Tensor:
    """Shear up and down about the centre by `shear`: (N,) tangents."""
    return resample(images, affine_matrix(shear_y=shear))


def translate_x(images: Tensor, pixels: Tensor) -> Tensor:
    """Move to the right by `pixels`: (N,), fractions allowed."""
    return resample(images, affine_matrix(translate_x=pixels))


def translate_y(images: Tensor, pixels: Tensor) -> Tensor:
    """Move down by `pixels`: (N,), fractions allowed."""
    return resample(images, affine_matrix(translate_y=pixels))


def scale(images: Tensor, factor: Tensor) -> Tensor:
    """Enlarge about the centre by `factor`: (N,), above 0; under 1 shrinks."""
    return resample(images, affine_matrix(scale=factor))


def perspective(images: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Carry the points `start` to `end`; see perspective_matrix."""
    return resample(images, perspective_matrix(start, end), projective=True)
