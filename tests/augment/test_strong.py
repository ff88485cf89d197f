"""The strong view is the weak one, then RandAugment, then cutout and erasing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.augment import strong, weak
from pipeline.augment.erase import cutout, random_erasing
from pipeline.augment.randaugment import OPERATIONS, rand_augment
from tests.augment.images import draws, levels, shares

ALL: dict[str, Any] = {
    "shift": 0.125,
    "flip": True,
    "operations": OPERATIONS,
    "num_ops": 2,
    "magnitude": 10.0,
    "magnitude_std": 1.0,
    "cutout": 0.3,
    "erasing": 0.5,
}


def test_is_its_parts_in_order() -> None:
    images, stream = shares(16), draws(16)
    slow = weak(images, stream, shift=0.125, flip=True)
    slow = rand_augment(
        slow, stream, operations=OPERATIONS, num_ops=2, magnitude=10, magnitude_std=1
    )
    slow = cutout(slow, stream, side=0.3)
    slow = random_erasing(slow, stream, chance=0.5)
    assert torch.equal(strong(images, draws(16), **ALL), slow)


def test_with_every_part_off_it_is_the_image() -> None:
    images = levels(8)
    off = ALL | {"shift": 0.0, "flip": False, "num_ops": 0, "cutout": 0.0, "erasing": 0.0}
    assert torch.equal(strong(images, draws(8), **off), images)


def test_digits_get_noise_that_leaves_them_in_range() -> None:
    images = shares(32, 1, 16, 16)
    names = ("rotate", "shear_x", "translate_y", "scale", "elastic", "brightness", "contrast")
    result = strong(images, draws(32), **(ALL | {"operations": names, "flip": False}))
    assert result.shape == images.shape
    assert 0 <= result.min() <= result.max() <= 1 + 1e-6
    assert float((result - images).abs().mean()) > 0.05


def test_a_resized_crop_replaces_the_shift() -> None:
    images = levels(16)
    how: dict[str, Any] = {"crop": "resized", "crop_area": (0.3, 0.6), "crop_ratio": (1.0, 1.0)}
    off = ALL | {"num_ops": 0, "cutout": 0.0, "erasing": 0.0}
    assert torch.equal(
        strong(images, draws(16), **(off | how)),
        weak(images, draws(16), shift=0.0, flip=True, **how),
    )


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_together_do_what_one_does(workers: int) -> None:
    images = levels(16)
    whole = strong(images, draws(16), **ALL)
    for rank in range(workers):
        rows = slice(rank, None, workers)
        assert torch.equal(strong(images[rows], draws(16, rows=rows), **ALL), whole[rows])
