"""Local warps against loops written from Simard et al.'s description."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pipeline.augment.draws import Draws
from pipeline.augment.elastic import KNOTS, SMOOTHNESS, displacement, elastic
from tests.augment.images import levels, most_apart, shares


def _slow_displacement(knots: Tensor, strength: float, height: int, width: int) -> Tensor:
    """One image's field: every pixel sums every knot under a normalised Gaussian weight."""
    field = torch.zeros(2, height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            weights = torch.zeros(KNOTS, KNOTS, dtype=torch.float64)
            for j in range(KNOTS):
                for i in range(KNOTS):
                    down = y / (height - 1) - j / (KNOTS - 1)
                    across = x / (width - 1) - i / (KNOTS - 1)
                    weights[j, i] = math.exp(-(down**2 + across**2) / (2 * SMOOTHNESS**2))
            weights /= math.sqrt(float((weights**2).sum()))
            field[:, y, x] = strength * (weights * knots.double()).sum((1, 2))
    return field


def _slow_warp(image: Tensor, field: Tensor) -> Tensor:
    """Each output pixel takes the input at its place plus the field, bilinearly, black outside."""
    height, width = image.shape[-2:]
    result = torch.zeros_like(image)
    for y in range(height):
        for x in range(width):
            at_x, at_y = x + float(field[0, y, x]), y + float(field[1, y, x])
            for j in (math.floor(at_y), math.floor(at_y) + 1):
                for i in (math.floor(at_x), math.floor(at_x) + 1):
                    if 0 <= j < height and 0 <= i < width:
                        share = (1 - abs(at_x - i)) * (1 - abs(at_y - j))
                        result[:, y, x] += share * image[:, j, i]
    return result


def test_equals_the_slow_loops() -> None:
    images, draws = shares(2, 3, 11, 13), Draws(0, 2)
    knots, strength = draws.normal(2, KNOTS, KNOTS), torch.tensor([0.8, 2.0])
    fields = displacement(knots, strength, 11, 13)
    result = elastic(images, knots, strength)
    for n in range(2):
        slow = _slow_displacement(knots[n], float(strength[n]), 11, 13)
        assert float((fields[n] - slow).abs().max()) < 1e-5
        assert most_apart(result[n], _slow_warp(images[n], slow)) < 1e-4
    assert float((result - images).abs().max()) > 0.05


@pytest.mark.parametrize("side", [8, 16, 33])
def test_every_pixel_moves_by_the_strength_on_average(side: int) -> None:
    knots = Draws(1, 3000).normal(2, KNOTS, KNOTS)
    fields = displacement(knots, torch.full((3000,), 1.5), side, side)
    deviation = fields.std(dim=0)
    assert float(deviation.min()) > 1.35
    assert float(deviation.max()) < 1.65


def test_fields_are_smooth() -> None:
    knots = Draws(2, 200).normal(2, KNOTS, KNOTS)
    fields = displacement(knots, torch.ones(200), 32, 32)
    assert float((fields[..., 1:] - fields[..., :-1]).abs().mean()) < 0.2


def test_no_strength_leaves_the_image() -> None:
    images = levels(2)
    assert torch.equal(elastic(images, Draws(0, 2).normal(2, KNOTS, KNOTS), torch.zeros(2)), images)
