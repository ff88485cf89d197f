"""Views: the weak one within its limits, the strong one as its parts, the jitter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.augment import Draws, jitter, strong, weak
from pipeline.augment.boxes import crop_boxes, cutout, random_erasing, resized_crop
from pipeline.augment.randaugment import rand_augment
from pipeline.params import AugmentParams
from tests.augment.images import draws, most_apart, shares

ALL = AugmentParams(flip=True, magnitude_std=1.0, cutout=0.3, erasing=0.5)


def plain(**changes: Any) -> AugmentParams:
    """Nothing but what `changes` say."""
    return AugmentParams(**({"shift": 0.0, "num_ops": 0} | changes))


def test_weak_draws_every_shift_within_its_limit() -> None:
    # One bright pixel in the middle: where it goes is the shift.
    count, side = 2000, 16
    images = torch.zeros(count, 1, side, side)
    images[:, 0, 8, 8] = 1
    result = weak(images, draws(count), plain(shift=0.125))
    places = result.flatten(1).argmax(1)
    rows, columns = places // side - 8, places % side - 8
    for shifts in (rows, columns):
        assert sorted(set(shifts.tolist())) == [-2, -1, 0, 1, 2]
    both = torch.stack((rows, columns)).double()
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.1


def test_weak_mirrors_half_only_where_asked() -> None:
    images = shares(1).repeat(400, 1, 1, 1)
    turned = weak(images, draws(400), plain(flip=True))
    share = (turned == images.flip(3)).flatten(1).all(1).float().mean()
    assert 0.4 < float(share) < 0.6
    assert torch.equal(weak(images, draws(400), plain()), images)


@pytest.mark.parametrize("shift", [0.0, 0.125, 0.5])
def test_weak_leaves_its_input(shift: float) -> None:
    for images in (shares(4), shares(3, 1, 1, 2)):
        before = images.clone()
        assert weak(images, draws(len(images)), plain(shift=shift, flip=True)).shape == images.shape
        assert torch.equal(images, before)


def test_weak_crops_and_resizes_then_mirrors_half() -> None:
    images, area, ratio = shares(40, 3, 16, 16), (0.2, 0.5), (0.8, 1.25)
    cropping = plain(flip=True, crop="resized", crop_area=area, crop_ratio=ratio)
    result = weak(images, draws(40), cropping)
    expected = resized_crop(images, crop_boxes(draws(40), 16, 16, area, ratio))
    as_they_are = (result == expected).flatten(1).all(1)
    mirrored = (result == expected.flip(3)).flatten(1).all(1)
    assert (as_they_are | mirrored).all()
    assert 8 <= int(mirrored.sum()) <= 32
    assert not (result == images).flatten(1).all(1).any()
    assert len({image.numpy().tobytes() for image in result}) == 40
    assert torch.equal(strong(images, draws(40), cropping), result)


def test_strong_is_its_parts_in_order() -> None:
    images, stream = shares(16), draws(16)
    slow = weak(images, stream, ALL)
    slow = rand_augment(slow, stream, ALL)
    slow = cutout(slow, stream, side=0.3)
    slow = random_erasing(slow, stream, chance=0.5)
    assert torch.equal(strong(images, draws(16), ALL), slow)


def test_with_every_part_off_strong_is_the_image() -> None:
    images = shares(8)
    assert torch.equal(strong(images, draws(8), plain()), images)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_together_do_what_one_does(workers: int) -> None:
    images = shares(16)
    whole = strong(images, draws(16), ALL)
    for rank in range(workers):
        rows = slice(rank, None, workers)
        assert torch.equal(strong(images[rows], draws(16, rows=rows), ALL), whole[rows])


def test_jitter_moves_a_little_and_each_image_its_own_way() -> None:
    image = shares(1, 1, 32, 32)
    views = jitter(image.repeat(8, 1, 1, 1), draws(8))
    off = (views - image).abs().mean(dim=(1, 2, 3))
    assert float(off.min()) > 1e-3
    assert float(off.max()) < 0.15
    assert most_apart(views[0], views[1]) > 0.01


def test_jitter_has_no_black_edges_and_stays_within_its_limits() -> None:
    white = torch.ones(16, 1, 16, 16)
    assert torch.allclose(jitter(white, draws(16)), white)
    # The intensity's centre moves by the shift: rotation and scaling leave it where it is.
    count, side = 500, 40
    spot = torch.arange(side) - (side - 1) / 2
    image = torch.exp(-0.5 * (spot**2 + spot[:, None] ** 2) / 9)[None, None]
    moved = jitter(image.repeat(count, 1, 1, 1), Draws(3, count))
    centre = (moved * spot).sum(dim=(1, 2, 3)) / moved.sum(dim=(1, 2, 3))
    assert 1.5 < float(centre.max()) < 1.65
    assert -1.65 < float(centre.min()) < -1.5
