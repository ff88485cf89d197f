"""Each geometric operation against torchvision's, image by image."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from pipeline.augment import geometry
from tests.augment.images import levels, most_apart, shares

BILINEAR = InterpolationMode.BILINEAR
STRENGTHS = torch.tensor([-0.9, -0.2, 0.0, 0.7])


def _affine(image: Tensor, interpolation: InterpolationMode = BILINEAR, **values: object) -> Tensor:
    still = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    result: Tensor = reference.affine(image, **(still | values), interpolation=interpolation)
    return result


def _degrees(tangent: float) -> float:
    return math.degrees(math.atan(tangent))


CASES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Callable[..., Tensor]]] = {
    "rotate": (
        geometry.rotate,
        STRENGTHS * 40,
        lambda image, x: reference.rotate(image, x, interpolation=BILINEAR),
    ),
    "shear_x": (
        geometry.shear_x,
        STRENGTHS * 0.3,
        lambda image, x: _affine(image, shear=[_degrees(x), 0.0]),
    ),
    "shear_y": (
        geometry.shear_y,
        STRENGTHS * 0.3,
        lambda image, x: _affine(image, shear=[0.0, _degrees(x)]),
    ),
    "translate_x": (
        geometry.translate_x,
        (STRENGTHS * 10).round(),
        lambda image, x: _affine(image, translate=[x, 0]),
    ),
    "translate_y": (
        geometry.translate_y,
        (STRENGTHS * 10).round(),
        lambda image, x: _affine(image, translate=[0, x]),
    ),
    "scale": (geometry.scale, 1 + STRENGTHS / 2, lambda image, x: _affine(image, scale=x)),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_equals_torchvision(name: str, channels: int) -> None:
    operation, strengths, slow = CASES[name]
    for images, allowed in ((levels(4, channels), 1), (shares(4, channels), 1e-3)):
        expected = torch.stack(
            [slow(image, float(x)) for image, x in zip(images, strengths, strict=True)]
        )
        result = operation(images, strengths)
        assert most_apart(result, expected) <= allowed
        assert not torch.equal(result[0], images[0])
        assert torch.equal(operation(images, strengths)[0], operation(images[:1], strengths[:1])[0])


def test_translation_by_pixels_is_exact_and_leaves_black() -> None:
    images = levels(1)
    moved = geometry.translate_x(images, torch.tensor([3.0]))
    assert torch.equal(moved[..., 3:], images[..., :-3])
    assert not moved[..., :3].any()


def test_one_affine_matrix_equals_torchvisions() -> None:
    images = shares(2)
    matrix = geometry.affine_matrix(
        angle=torch.tensor([20.0, -10.0]),
        scale=torch.tensor([1.2, 0.8]),
        translate_x=torch.tensor([2.0, -3.0]),
        translate_y=torch.tensor([-1.0, 4.0]),
    )
    result = geometry.resample(images, matrix)
    first = _affine(images[0], angle=-20.0, scale=1.2, translate=[2, -1])
    second = _affine(images[1], angle=10.0, scale=0.8, translate=[-3, 4])
    assert most_apart(result, torch.stack((first, second))) < 1e-3


def test_a_product_of_matrices_is_one_operation_after_the_other() -> None:
    # Smooth images: two resamplings blur twice, one once.
    y, x = torch.meshgrid(torch.linspace(0, 3, 40), torch.linspace(0, 2, 40), indexing="ij")
    images = (0.5 + 0.4 * torch.sin(x) * torch.cos(y))[None, None]
    turn = geometry.affine_matrix(angle=torch.tensor([15.0]))
    lean = geometry.affine_matrix(shear_x=torch.tensor([0.2]))
    slow = geometry.resample(geometry.resample(images, turn), lean)
    fused = geometry.resample(images, turn @ lean)
    inside = (..., slice(12, -12), slice(12, -12))
    assert most_apart(fused[inside], slow[inside]) < 2e-3
    other_order = geometry.resample(images, lean @ turn)
    assert most_apart(other_order[inside], slow[inside]) > 5e-3


def test_perspective_equals_torchvision() -> None:
    images, width, height = levels(2), 24, 20
    start = [[0, 0], [width, 0], [width, height], [0, height]]
    ends = [[[2, 1], [21, 3], [24, 18], [1, 20]], [[0, 4], [20, 0], [22, 17], [3, 19]]]
    centre = torch.tensor([width / 2, height / 2])
    result = geometry.perspective(
        images,
        (torch.tensor(start) - centre).expand(2, -1, -1),
        torch.tensor(ends) - centre,
    )
    expected = [
        reference.perspective(image, start, end, interpolation=BILINEAR)
        for image, end in zip(images, ends, strict=True)
    ]
    assert most_apart(result, torch.stack(expected)) <= 1
    assert not torch.equal(result, images)


def test_perspective_matrix_carries_each_point() -> None:
    start = torch.tensor([[[-8.0, -6.0], [8.0, -6.0], [8.0, 6.0], [-8.0, 6.0]]])
    end = start + torch.tensor([[[1.0, 2.0], [-2.0, 0.5], [-1.0, -1.0], [3.0, -2.0]]])
    corners = torch.cat((end, torch.ones(1, 4, 1)), dim=2)
    found = corners @ geometry.perspective_matrix(start, end).mT
    assert torch.allclose(found[..., :2] / found[..., 2:], start, atol=1e-4)


def test_nearest_takes_values_that_are_there() -> None:
    images = levels(1, 1)
    turn = geometry.affine_matrix(angle=torch.tensor([30.0]))
    result = geometry.resample(images, turn, interpolation="nearest")
    expected = reference.rotate(images[0], 30.0)
    assert (result[0] != expected).float().mean() < 0.01
    assert set(result.flatten().tolist()) <= set(images.flatten().tolist()) | {0}


def test_padding_continues_the_image() -> None:
    white = torch.ones(1, 1, 9, 9)
    turn = geometry.affine_matrix(angle=torch.tensor([45.0]))
    assert geometry.resample(white, turn)[0, 0, 0, 0] == 0
    assert torch.allclose(geometry.resample(white, turn, padding="reflection"), white)
