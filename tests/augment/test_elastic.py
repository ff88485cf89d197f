"""Local warps against loops written from Simard et al.'s description."""

from __future__ import annotations

import pytest
import torch

from pipeline.augment.draws import Draws
from pipeline.augment.elastic import KNOTS, displacement, elastic
from tests.augment.images import levels, most_apart, shares
from tests.augment.references import elastic_field, warp


def test_equals_the_slow_loops() -> None:
    images, draws = shares(2, 3, 11, 13), Draws(0, 2)
    knots, strength = draws.normal(2, KNOTS, KNOTS), torch.tensor([0.8, 2.0])
    fields = displacement(knots, strength, 11, 13)
    result = elastic(images, knots, strength)
    for n in range(2):
        slow = elastic_field(knots[n], float(strength[n]), 11, 13)
        assert float((fields[n] - slow).abs().max()) < 1e-5
        assert most_apart(result[n], warp(images[n], slow)) < 1e-4
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
