from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipeline.data.images import Pixels, decode
from pipeline.data.preparation.duplicates import (
    Compared,
    compared_rows,
    conflicting,
    exact_copies,
    same_pictures,
    thumbnail,
)
from tests.data.helpers import encoded


def stored(images: list[bytes], size: int = 64) -> list[Pixels]:
    return [decode(data, image_size=size, channels=3, max_pixels=10**6) for data in images]


def found_copies(images: list[Pixels], held_out: int, distance: float = 1.0) -> list[int]:
    """Of all but the first `held_out` images the one of these that each is a copy of."""
    thumbnails = np.stack([thumbnail(pixels) for pixels in images])
    digests = np.stack(
        [np.frombuffer(sha256(pixels.tobytes()).digest()[:16], np.uint8) for pixels in images]
    )
    rows, held = np.arange(held_out, len(images)), np.arange(held_out)
    copies = exact_copies(digests, rows, held)
    if distance and held_out:
        others = np.flatnonzero(copies < 0)
        places, count = compared_rows(digests, rows, held)
        compared = Compared(places, thumbnails[places], count, distance)
        nearest = compared.nearest(rows[others], thumbnails[rows[others]])
        pixels = dict(enumerate(images))
        copies[others] = same_pictures(rows[others], nearest, lambda wanted: pixels)
    found: list[int] = copies.tolist()
    return found


def scene(seed: int) -> Image.Image:
    """A picture of large and small shapes, different for each seed."""
    generator = np.random.default_rng(seed)
    values = generator.normal(0, 1, (40, 50, 3)).cumsum(0).cumsum(1)
    values = (
        128 + 60 * (values - values.mean()) / values.std() + generator.normal(0, 4, (40, 50, 3))
    )
    picture = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    return picture.resize((150, 120), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: encoded(image, "JPEG", quality=60),
        lambda image: encoded(image.resize((100, 80), Image.Resampling.BICUBIC), "PNG"),
        lambda image: encoded(image.resize((220, 176), Image.Resampling.BICUBIC), "WEBP"),
    ],
    ids=["recompressed", "smaller", "larger"],
)
def test_a_copy_is_told_from_other_pictures(change: Callable[[Image.Image], bytes]) -> None:
    pictures = [encoded(scene(seed)) for seed in range(30)]
    images = stored([*pictures, change(scene(7))])
    assert found_copies(images, 20) == [-1] * 10 + [7]
    assert found_copies(images, 20, distance=0.0) == [-1] * 11


def test_one_held_out_image_is_enough() -> None:
    copy = encoded(scene(0), "JPEG", quality=70)
    assert found_copies(stored([*(encoded(scene(n)) for n in range(4)), copy]), 1) == [-1] * 3 + [0]


def test_alone_in_the_world_nothing_is_nearly_the_same() -> None:
    assert found_copies(stored([encoded(scene(0)), encoded(scene(0), "JPEG")]), 1) == [-1]


def camera(seed: int, lamp: tuple[int, int, int]) -> Image.Image:
    """One scene with a little noise; a lamp in it tells the class."""
    values = np.asarray(scene(1), np.float64) + np.random.default_rng(seed).normal(
        0, 4, (120, 150, 3)
    )
    values[20:30, 70:76] = lamp
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def sketch(seed: int) -> Image.Image:
    """A small outline somewhere on a white page."""
    left, top = np.random.default_rng(seed).integers(20, 90, 2).tolist()
    page = Image.new("L", (128, 128), 255)
    ImageDraw.Draw(page).rectangle([left, top, left + 18, top + 18], outline=0)
    return page


def water(seed: int) -> Image.Image:
    """A dark view with hardly anything on it."""
    values = np.random.default_rng(seed).normal((20, 40, 60), 1.0, (64, 64, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    "draw",
    [
        lambda seed: camera(seed, ((230, 30, 30), (30, 220, 60))[seed % 2]),
        sketch,
        water,
    ],
    ids=["camera", "sketch", "water"],
)
def test_pictures_that_all_look_alike_are_no_copies(draw: Callable[[int], Image.Image]) -> None:
    images = stored([encoded(draw(seed)) for seed in range(80)])
    assert found_copies(images, 30) == [-1] * 50


def test_exact_copies_are_found_without_a_distance() -> None:
    images = stored([encoded(scene(seed)) for seed in (0, 1, 1, 2)])
    assert found_copies([images[2], images[3], images[0], images[1]], 2, 0.0) == [-1, 0]
    assert found_copies(images[:2], 0) == [-1, -1]


@pytest.mark.parametrize("held_out", [1, 20])
def test_many_copies_of_one_picture_are_all_found(held_out: int) -> None:
    pictures = [encoded(scene(seed)) for seed in range(30)]
    copies = [encoded(scene(0), "JPEG", quality=quality) for quality in (55, 65, 75, 85)]
    assert found_copies(stored([*pictures, *copies]), held_out)[-4:] == [0] * 4


def test_conflicts_are_copies_under_two_labels() -> None:
    digests = np.zeros((6, 16), np.uint8)
    digests[:, 15] = [1, 1, 2, 2, 3, 3]
    labels = np.array([0, 1, 1, 1, 0, -1])
    assert conflicting(digests, labels).tolist() == [True, True, False, False, False, False]
    assert conflicting(digests[:0], labels[:0]).tolist() == []


def test_neighbours_do_not_depend_on_what_is_searched_together() -> None:
    generator = np.random.default_rng(0)
    thumbnails = generator.integers(200, 256, (400, 256), dtype=np.uint8)
    thumbnails[300:] = thumbnails[:100]
    thumbnails[300:, :5] //= 2
    compared = Compared(np.arange(120), thumbnails[:120], 60, 30.0)
    rows = np.arange(120, 400)
    together = compared.nearest(rows, thumbnails[rows])
    alone = [int(compared.nearest(rows[[n]], thumbnails[rows[[n]]])[0]) for n in range(len(rows))]
    assert together.tolist() == alone
    assert (together >= 0).sum() == 60
