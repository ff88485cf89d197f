"""The views of an image: weak and strong for training, jitter for test time."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from pipeline.augment.boxes import crop_boxes, cutout, random_erasing, resized_crop
from pipeline.augment.draws import Draws
from pipeline.augment.geometry import affine_matrix, resample
from pipeline.augment.randaugment import rand_augment
from pipeline.augment.warp import Warp
from pipeline.params import AugmentParams

ANGLE = 5.0  # of jitter: largest rotation, degrees
SHIFT = 0.04  # largest move, share of the side
SCALE = 0.04  # largest change of size, share


def weak(images: Tensor, draws: Draws, params: AugmentParams, warp: Warp | None = None) -> Tensor:
    """Shift each image by whole pixels and mirror every other one: FixMatch's weak view.

    `shift`: up to this share of the side, each way, each axis by itself. `flip`: mirror left-right
    with a chance of 1/2. `padding`: what moves in, the image mirrored at its edge (Sohn et al.
    2020) or black. `crop` "resized": instead of a shift a random box, brought to the image's size.
    `warp` records how the pixels move.
    """
    height, width = images.shape[-2:]
    if params.crop == "resized":
        boxes = crop_boxes(draws, height, width, params.crop_area, params.crop_ratio)
        cropped = resized_crop(images, boxes)
        mirrored = draws.uniform() < 0.5 if params.flip else None
        if warp is not None:
            warp.crop(boxes, mirrored)
        if mirrored is None:
            return cropped
        turned = mirrored.to(images.device)[:, None, None, None]
        return torch.where(turned, cropped.flip(3), cropped)
    down, right = (_pixels(draws, params.shift, side) for side in (height, width))
    mirrored = draws.uniform() < 0.5 if params.flip else None
    if warp is not None:
        warp.shift(right, down, mirrored)
    return move(images, right, down, mirrored, padding=params.padding)


def strong(images: Tensor, draws: Draws, params: AugmentParams, warp: Warp | None = None) -> Tensor:
    """Take the weak view, do `num_ops` random operations, then erase a square and a rectangle.

    `warp` records how the pixels move, and which are erased.
    """
    images = weak(images, draws, params, warp)
    if params.num_ops > 0:
        images = rand_augment(images, draws, params, warp)
    if params.cutout > 0:
        images = cutout(images, draws, side=params.cutout, warp=warp)
    if params.erasing > 0:
        images = random_erasing(images, draws, chance=params.erasing, warp=warp)
    return images


def jitter(images: Tensor, draws: Draws, warp: Warp | None = None) -> Tensor:
    """Rotate, move and scale each image a little, for test-time views.

    Each is uniform up to ANGLE, SHIFT and SCALE, either way. Edges continue by reflection. `warp`
    records how the pixels move.
    """
    matrices = jitter_matrices(draws, *images.shape[-2:])
    if warp is not None:
        warp.resample(matrices)
    return resample(images, matrices, padding="reflection")


def jitter_matrices(draws: Draws, height: int, width: int) -> Tensor:
    """How `jitter` moves each image: (N, 3, 3)."""
    amounts = draws.signed(4)
    return affine_matrix(
        angle=amounts[:, 0] * ANGLE,
        translate_x=amounts[:, 1] * (SHIFT * width),
        translate_y=amounts[:, 2] * (SHIFT * height),
        scale=torch.exp(amounts[:, 3] * math.log1p(SCALE)),
    )


def move(
    images: Tensor,
    right: Tensor,
    down: Tensor,
    mirrored: Tensor | None = None,
    *,
    padding: Literal["reflect", "zeros"] = "reflect",
) -> Tensor:
    """Move by `right` and `down` (N,) whole pixels, then mirror left-right where `mirrored` says.

    mirrored: (N,) bool; moves are at most the side - 1.
    """
    count, channels, height, width = images.shape
    rows = torch.arange(height, device=images.device) - down.to(images.device)[:, None]
    columns = torch.arange(width, device=images.device) - right.to(images.device)[:, None]
    if mirrored is not None:
        columns = torch.where(mirrored.to(images.device)[:, None], columns.flip(1), columns)
    places = _reflected(rows, height)[:, :, None] * width + _reflected(columns, width)[:, None, :]
    places = places.view(count, 1, height * width).expand(-1, channels, -1)
    moved = images.flatten(2).gather(2, places).view_as(images)
    if padding == "zeros":
        inside = _inside(rows, height)[:, None, :, None] & _inside(columns, width)[:, None, None, :]
        moved *= inside
    return moved


def _pixels(draws: Draws, shift: float, side: int) -> Tensor:
    """Whole pixels, uniform in -most ... most: (N,) int64."""
    most = min(round(shift * side), side - 1)
    return draws.integers(2 * most + 1) - most


def _reflected(places: Tensor, side: int) -> Tensor:
    """Places outside 0 ... side - 1 mirrored at the edge pixel, which is not repeated."""
    places = places.abs()
    return torch.minimum(places, 2 * (side - 1) - places)


def _inside(places: Tensor, side: int) -> Tensor:
    return (places >= 0) & (places < side)
