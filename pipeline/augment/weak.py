"""The light views: the weak one of training, and the jitter of test-time views."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from pipeline.augment.crop import crop_boxes, resized_crop
from pipeline.augment.draws import Draws
from pipeline.augment.geometry import affine_matrix, resample


def weak(
    images: Tensor,
    draws: Draws,
    *,
    shift: float,
    flip: bool,
    padding: Literal["reflect", "zeros"] = "reflect",
    crop: Literal["shift", "resized"] = "shift",
    crop_area: tuple[float, float] = (0.5, 1.0),
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """Shift each image by whole pixels and mirror every other one: FixMatch's weak view.

    images: (N, C, H, W) float or uint8, of which a new tensor is made. `shift`: up to this share
    of the side, each way, each axis by itself. `flip`: mirror left-right with a chance of 1/2.
    `padding`: what moves in, the image mirrored at its edge (Sohn et al. 2020) or black.
    `crop` "resized": instead of a shift a random box, brought to the image's size; `crop_area`
    and `crop_ratio` as in random_resized_crop (Szegedy et al. 2015).
    """
    if crop == "resized":
        height, width = images.shape[-2:]
        boxes = crop_boxes(draws, height, width, crop_area, crop_ratio)
        cropped = resized_crop(images, boxes, height, width)
        return mirror(cropped, draws.uniform() < 0.5) if flip else cropped
    down = _pixels(draws, shift, images.shape[-2])
    right = _pixels(draws, shift, images.shape[-1])
    mirrored = draws.uniform() < 0.5 if flip else None
    return move(images, right, down, mirrored, padding=padding)


def move(
    images: Tensor,
    right: Tensor,
    down: Tensor,
    mirrored: Tensor | None = None,
    *,
    padding: Literal["reflect", "zeros"] = "reflect",
) -> Tensor:
    """Move by `right` and `down` (N,) whole pixels, then mirror left-right where `mirrored` says.

    images: (N, C, H, W), any type; mirrored: (N,) bool; moves are at most the side - 1.
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


def mirror(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirror left-right the images that `chosen` (N,) bool names."""
    return torch.where(chosen.to(images.device)[:, None, None, None], images.flip(3), images)


def jitter(
    images: Tensor,
    draws: Draws,
    *,
    angle: float = 5.0,
    shift: float = 0.04,
    scale: float = 0.04,
) -> Tensor:
    """Rotate, move and scale each image a little, for test-time views.

    images: (N, C, H, W) float or uint8. `angle`: degrees; `shift`: share of the side; `scale`:
    share of the size; each uniform up to that much either way. Edges continue by reflection.
    """
    amounts = draws.host.signed(4)
    matrices = affine_matrix(
        angle=amounts[:, 0] * angle,
        translate_x=amounts[:, 1] * (shift * images.shape[-1]),
        translate_y=amounts[:, 2] * (shift * images.shape[-2]),
        scale=torch.exp(amounts[:, 3] * math.log1p(scale)),
    )
    return resample(images, matrices, padding="reflection")


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
