"""Matrices, their products and displacements; test_accuracy.py compares each with its reference."""

from __future__ import annotations

import pytest
import torch

from pipeline.augment.draws import Draws
from pipeline.augment.geometry import (
    KNOTS,
    affine_matrix,
    displacement,
    perspective_matrix,
    resample,
)
from tests.augment.images import most_apart, shares
from tests.augment.references import affine, moved, warped


def test_translation_by_pixels_is_exact_and_leaves_black() -> None:
    images = shares(1)
    right = moved(images, translate_x=torch.tensor([3.0]))
    assert most_apart(right[..., 3:], images[..., :-3]) < 1e-5
    assert not right[..., :3].any()


def test_one_affine_matrix_equals_torchvisions() -> None:
    images = shares(2)
    result = moved(
        images,
        angle=torch.tensor([20.0, -10.0]),
        scale=torch.tensor([1.2, 0.8]),
        translate_x=torch.tensor([2.0, -3.0]),
        translate_y=torch.tensor([-1.0, 4.0]),
    )
    first = affine(images[0], angle=-20.0, scale=1.2, translate=[2, -1])
    second = affine(images[1], angle=10.0, scale=0.8, translate=[-3, 4])
    assert most_apart(result, torch.stack((first, second))) < 1e-3


def test_a_product_of_matrices_is_one_operation_after_the_other() -> None:
    # Smooth images: two resamplings blur twice, one once.
    y, x = torch.meshgrid(torch.linspace(0, 3, 40), torch.linspace(0, 2, 40), indexing="ij")
    images = (0.5 + 0.4 * torch.sin(x) * torch.cos(y))[None, None]
    turn = affine_matrix(angle=torch.tensor([15.0]))
    lean = affine_matrix(shear_x=torch.tensor([0.2]))
    slow = resample(resample(images, turn), lean)
    inside = (..., slice(12, -12), slice(12, -12))
    assert most_apart(resample(images, turn @ lean)[inside], slow[inside]) < 2e-3
    assert most_apart(resample(images, lean @ turn)[inside], slow[inside]) > 5e-3


def test_perspective_matrix_carries_each_point() -> None:
    start = torch.tensor([[[-8.0, -6.0], [8.0, -6.0], [8.0, 6.0], [-8.0, 6.0]]])
    end = start + torch.tensor([[[1.0, 2.0], [-2.0, 0.5], [-1.0, -1.0], [3.0, -2.0]]])
    corners = torch.cat((end, torch.ones(1, 4, 1)), dim=2)
    found = corners @ perspective_matrix(start, end).mT
    assert torch.allclose(found[..., :2] / found[..., 2:], start, atol=1e-4)


def test_padding_continues_the_image() -> None:
    white = torch.ones(1, 1, 9, 9)
    turn = affine_matrix(angle=torch.tensor([45.0]))
    assert resample(white, turn)[0, 0, 0, 0] == 0
    assert torch.allclose(resample(white, turn, padding="reflection"), white)


@pytest.mark.parametrize("side", [8, 16, 33])
def test_every_pixel_moves_by_the_strength_on_average_and_smoothly(side: int) -> None:
    knots = Draws(1, 3000).normal(2, KNOTS, KNOTS)
    fields = displacement(knots, torch.full((3000,), 1.5), side, side)
    deviation = fields.std(dim=0)
    assert float(deviation.min()) > 1.35
    assert float(deviation.max()) < 1.65
    assert float((fields[..., 1:] - fields[..., :-1]).abs().mean()) < 9.6 / side


def test_a_displacement_of_no_strength_leaves_the_image() -> None:
    images, knots = shares(2), Draws(0, 2).normal(2, KNOTS, KNOTS)
    assert most_apart(warped(images, knots, torch.zeros(2)), images) < 1e-5
