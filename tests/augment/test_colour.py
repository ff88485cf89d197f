"""Colour operations at their limits; test_accuracy.py compares each with its reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from pipeline.augment import colour
from tests.augment.images import most_apart, shares


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(colour.equalize, reference.equalize), (colour.autocontrast, reference.autocontrast)],
)
def test_histograms_are_stretched_and_flat_images_left(
    ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], channels: int
) -> None:
    images = ((shares(5, channels, 40, 44) * 127).floor() + 30) / 255
    images[4] = 77 / 255
    result = ours(images)
    assert most_apart(result, torch.stack([theirs(image) for image in images])) <= 1e-5
    assert torch.equal(result[4], images[4])
    assert float(result[0].std()) > 1.2 * float(images[0].std())


def test_equalize_leaves_images_with_fewer_pixels_than_levels() -> None:
    images = shares(2, 1, 15, 16)
    assert most_apart(colour.equalize(images), reference.equalize(images)) <= 1e-6


def test_tiny_images_can_not_be_sharpened() -> None:
    images = shares(2, 3, 2, 9)
    assert torch.equal(colour.sharpness(images, torch.tensor([0.0, 1.9])), images)


def test_inputs_are_left_as_they_were() -> None:
    images, strength = shares(2), torch.tensor([0.3, 0.7])
    before = images.clone()
    for name in ("brightness", "contrast", "saturation", "sharpness", "posterize", "solarize"):
        changed = getattr(colour, name)(images, strength)
        assert not torch.equal(changed, images), name
        assert torch.equal(images, before), name


def test_imagenets_axes_are_orthogonal_and_grey_is_left_alone() -> None:
    axes = torch.tensor(colour.IMAGENET_AXES)
    directions = axes / axes.norm(dim=0)
    assert torch.allclose(directions.T @ directions, torch.eye(3), atol=1e-3)
    grey = shares(2, 1)
    assert torch.equal(colour.pca_colour_shift(grey, torch.ones(2, 3)), grey)
