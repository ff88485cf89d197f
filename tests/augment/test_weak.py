"""The weak view against slow padding and cropping; the jitter against its limits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.augment import Draws, jitter, weak
from pipeline.augment.crop import random_resized_crop
from pipeline.augment.weak import mirror, move
from tests.augment.images import draws, levels, most_apart, shares


def _slow_move(image: Tensor, right: int, down: int, mirrored: bool, padding: str) -> Tensor:
    """Pad all round, cut the window out, mirror it."""
    height, width = image.shape[-2:]
    mode = "reflect" if padding == "reflect" else "constant"
    wide = torch.nn.functional.pad(image[None].float(), (6, 6, 6, 6), mode=mode)[0]
    cut = wide[:, 6 - down : 6 - down + height, 6 - right : 6 - right + width]
    return (cut.flip(2) if mirrored else cut).to(image.dtype)


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
def test_move_equals_padding_and_cropping(padding: str) -> None:
    right, down = torch.tensor([0, 6, -6, 3]), torch.tensor([0, -5, 2, 6])
    mirrored = torch.tensor([True, False, True, False])
    for images in (levels(4), shares(4, 1)):
        result = move(images, right, down, mirrored, padding=padding)  # type: ignore[arg-type]
        for n in range(4):
            slow = _slow_move(images[n], int(right[n]), int(down[n]), bool(mirrored[n]), padding)
            assert torch.equal(result[n], slow)


def test_mirror_turns_the_chosen() -> None:
    images = levels(2)
    result = mirror(images, torch.tensor([True, False]))
    assert torch.equal(result[0], images[0].flip(2))
    assert torch.equal(result[1], images[1])


def test_weak_draws_every_shift_within_its_limit() -> None:
    # One bright pixel in the middle: where it goes is the shift.
    count, side = 2000, 16
    images = torch.zeros(count, 1, side, side)
    images[:, 0, 8, 8] = 1
    result = weak(images, draws(count), shift=0.125, flip=False)
    places = result.flatten(1).argmax(1)
    rows, columns = places // side - 8, places % side - 8
    for shifts in (rows, columns):
        assert sorted(set(shifts.tolist())) == [-2, -1, 0, 1, 2]
    both = torch.stack((rows, columns)).double()
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.1


def test_weak_mirrors_half_only_where_asked() -> None:
    images = levels(1).repeat(400, 1, 1, 1)
    turned = weak(images, draws(400), shift=0.0, flip=True)
    share = (turned == images.flip(3)).flatten(1).all(1).float().mean()
    assert 0.4 < float(share) < 0.6
    assert torch.equal(weak(images, draws(400), shift=0.0, flip=False), images)


@pytest.mark.parametrize("shift", [0.0, 0.125, 0.5])
def test_weak_keeps_the_type_and_its_input(shift: float) -> None:
    for images in (levels(4), shares(4, 1)):
        before = images.clone()
        result = weak(images, draws(4), shift=shift, flip=True)
        assert result.dtype == images.dtype
        assert torch.equal(images, before)


def test_weak_crops_and_resizes_then_mirrors_half() -> None:
    images, area, ratio = levels(40, 3, 16, 16), (0.2, 0.5), (0.8, 1.25)
    result = weak(
        images, draws(40), shift=0.5, flip=True, crop="resized", crop_area=area, crop_ratio=ratio
    )
    expected = random_resized_crop(images, draws(40), size=16, area=area, aspect=ratio)
    as_they_are = (result == expected).flatten(1).all(1)
    mirrored = (result == expected.flip(3)).flatten(1).all(1)
    assert (as_they_are | mirrored).all()
    assert 8 <= int(mirrored.sum()) <= 32
    assert not (result == images).flatten(1).all(1).any()


def test_weak_handles_the_smallest_images() -> None:
    images = levels(3, 1, 1, 2)
    assert weak(images, draws(3), shift=0.5, flip=True).shape == images.shape


def test_jitter_moves_a_little_and_each_image_its_own_way() -> None:
    image = shares(1, 1, 32, 32)
    views = jitter(image.repeat(8, 1, 1, 1), draws(8))
    off = (views - image).abs().mean(dim=(1, 2, 3))
    assert float(off.min()) > 1e-3
    assert float(off.max()) < 0.15
    assert most_apart(views[0], views[1]) > 0.01


def test_jitter_of_no_strength_is_the_image_and_its_edges_are_not_black() -> None:
    images = shares(2)
    still = jitter(images, draws(2), angle=0, shift=0, scale=0)
    assert most_apart(still, images) < 1e-4
    white = torch.ones(16, 1, 16, 16)
    assert torch.allclose(jitter(white, draws(16)), white)


def test_jitter_stays_within_its_limits() -> None:
    # The intensity's centre moves by the shift, with no rotation or scaling.
    count, side = 500, 40
    spot = torch.arange(side) - (side - 1) / 2
    image = torch.exp(-0.5 * (spot**2 + spot[:, None] ** 2) / 9)[None, None]
    moved = jitter(image.repeat(count, 1, 1, 1), Draws(3, count), angle=0, scale=0, shift=0.05)
    centre = (moved * spot).sum(dim=(1, 2, 3)) / moved.sum(dim=(1, 2, 3))
    assert 1.8 < float(centre.max()) < 2.05
    assert -2.05 < float(centre.min()) < -1.8
