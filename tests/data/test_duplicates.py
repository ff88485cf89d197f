from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.duplicates import conflicting, duplicates_of, near, thumbnail, thumbnail_side
from pipeline.data.images import decode
from tests.data.helpers import encoded, photo


def slow_near(
    thumbs: np.ndarray, rows: np.ndarray, held_out: np.ndarray, distance: float
) -> list[bool]:
    return [
        any(np.abs(thumbs[r].astype(float) - thumbs[h]).mean() <= distance for h in held_out)
        for r in rows
    ]


@pytest.mark.parametrize("distance", [0.5, 1.0, 3.0])
def test_near_agrees_with_every_pair_compared(distance: float) -> None:
    generator = np.random.default_rng(0)
    base = generator.integers(0, 250, (40, 256))
    shift = generator.integers(0, 6, (40, 256)) * generator.integers(0, 2, (40, 1))
    thumbs = np.vstack([base, np.clip(base + shift, 0, 255)]).astype(np.uint8)
    rows, held_out = np.arange(40, 80), np.arange(0, 40, 2)
    found = near(thumbs, rows, held_out, distance).tolist()
    assert found == slow_near(thumbs, rows, held_out, distance)
    assert 0 < sum(found) < 40


def test_near_looks_past_neighbours_that_only_seem_close() -> None:
    """Many images have the same block means as the row; only the last is its copy."""
    generator = np.random.default_rng(0)
    block = np.array([0, 255] * 8, np.uint8)
    decoys = np.array([np.tile(generator.permutation(block), 16) for _ in range(60)])
    grid = decoys.reshape(60, 4, 4, 4, 4).transpose(0, 1, 3, 2, 4).reshape(60, 256)
    thumbs = np.vstack([grid, grid[59:]])
    thumbs[60, 0] ^= 1
    assert near(thumbs, np.array([60]), np.arange(60), 1.0).tolist() == [True]
    assert near(thumbs, np.array([60]), np.arange(59), 1.0).tolist() == [False]


def test_exact_copies_are_found_without_a_distance() -> None:
    digests = np.zeros((4, 16), np.uint8)
    digests[:, 0] = [1, 2, 2, 3]
    thumbs = np.full((4, 64), 7, np.uint8)
    rows, held_out = np.array([0, 1]), np.array([2, 3])
    assert duplicates_of(digests, thumbs, rows, held_out, 0.0).tolist() == [False, True]
    assert duplicates_of(digests, thumbs, rows, held_out, 1.0).tolist() == [True, True]
    assert duplicates_of(digests, thumbs, rows, held_out[:0], 1.0).tolist() == [False, False]


def test_conflicts_are_copies_under_two_labels() -> None:
    digests = np.zeros((6, 16), np.uint8)
    digests[:, 15] = [1, 1, 2, 2, 3, 3]
    labels = np.array([0, 1, 1, 1, 0, -1])
    assert conflicting(digests, labels).tolist() == [True, True, False, False, False, False]
    assert conflicting(digests[:0], labels[:0]).tolist() == []


def test_a_recompressed_photograph_is_near_and_another_is_not() -> None:
    images = [
        encoded(photo(64, 64), "PNG"),
        encoded(photo(64, 64), "JPEG", quality=60),
        encoded(photo(64, 64).rotate(180), "PNG"),
    ]
    stored = [decode(data, image_size=32, channels=3, max_pixels=10**6) for data in images]
    thumbs = np.stack([thumbnail(pixels) for pixels in stored])
    assert thumbs.shape == (3, thumbnail_side(32) ** 2)
    assert near(thumbs, np.array([1, 2]), np.array([0]), 1.5).tolist() == [True, False]
