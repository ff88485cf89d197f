"""Find the same image twice: exactly, by a digest of its pixels, or nearly, by its thumbnail.

Near means a mean absolute grey-level difference of thumbnails up to a distance (0 to 255).
Averaging blocks of a thumbnail never makes two images differ more, so a tree over 4×4 block means
finds every candidate, and only those are compared in full: no pair is missed, none is listed that
is not close.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.images import Pixels

Digests = NDArray[np.uint8]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

BLOCKS = 4
ROWS_AT_ONCE = 4096
FIRST_NEIGHBOURS = 4


def thumbnail_side(image_size: int) -> int:
    """The side of the thumbnails of images of this size: 16, or 8 for the smallest images."""
    return 16 if image_size >= 16 else 8


def thumbnail(pixels: Pixels) -> Pixels:
    """The grey thumbnail, flat: (side²,) uint8, of an image (S, S, C) uint8."""
    grey = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("L")
    side = thumbnail_side(pixels.shape[0])
    small = grey.resize((side, side), Image.Resampling.BOX)
    return np.array(small, dtype=np.uint8).reshape(-1)


def conflicting(digests: Digests, labels: Ints) -> Mask:
    """Which labelled rows show the very pixels of a row with another label.

    digests: (N, 16) uint8; labels: (N,), negative where there is none.
    """
    rows = np.flatnonzero(labels >= 0)
    _, group = np.unique(_keys(digests[rows]), return_inverse=True)
    lowest = np.full(group.max(initial=-1) + 1, np.iinfo(np.int64).max)
    highest = np.full(group.max(initial=-1) + 1, -1)
    np.minimum.at(lowest, group, labels[rows])
    np.maximum.at(highest, group, labels[rows])
    mask = np.zeros(len(labels), bool)
    mask[rows] = (lowest != highest)[group]
    return mask


def duplicates_of(
    digests: Digests, thumbnails: Pixels, rows: Ints, held_out: Ints, distance: float
) -> Mask:
    """Which of `rows` are copies of any of the rows `held_out`: (len(rows),) bool.

    digests: (N, 16) uint8; thumbnails: (N, P) uint8, may be a memory map; distance: 0 for exact
    copies only.
    """
    mask = np.isin(_keys(digests[rows]), _keys(digests[held_out]))
    if distance > 0 and len(held_out):
        _, first = np.unique(_keys(digests[held_out]), return_index=True)
        others = np.flatnonzero(~mask)
        mask[others] = near(thumbnails, rows[others], held_out[first], distance)
    return mask


def near(thumbnails: Pixels, rows: Ints, held_out: Ints, distance: float) -> Mask:
    """Which thumbnails of `rows` are within `distance` of any of `held_out`: (len(rows),) bool."""
    from scipy.spatial import cKDTree

    tree = cKDTree(_block_means(thumbnails, held_out), balanced_tree=False)
    mask = np.zeros(len(rows), bool)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        mask[start : start + ROWS_AT_ONCE] = _near_part(tree, thumbnails, part, held_out, distance)
    return mask


def _near_part(tree: Any, thumbnails: Pixels, rows: Ints, held_out: Ints, distance: float) -> Mask:
    """`near` for rows few enough at once; looks at more neighbours only where all were close."""
    means = _block_means(thumbnails, rows)
    reach = distance * BLOCKS * BLOCKS * (1 + 1e-9)
    mask, open_rows, neighbours = np.zeros(len(rows), bool), np.arange(len(rows)), FIRST_NEIGHBOURS
    while len(open_rows):
        count = min(neighbours, len(held_out))
        _, found = tree.query(
            means[open_rows], k=range(1, count + 1), p=1, distance_upper_bound=reach
        )
        for column in found.T:
            todo = np.flatnonzero((column < len(held_out)) & ~mask[open_rows])
            one, other = thumbnails[rows[open_rows[todo]]], thumbnails[held_out[column[todo]]]
            gap = np.abs(one.astype(np.int16) - other).mean(axis=1)
            mask[open_rows[todo[gap <= distance]]] = True
        undecided = (found[:, -1] < len(held_out)) & ~mask[open_rows] & (count < len(held_out))
        open_rows, neighbours = open_rows[undecided], neighbours * 8
    return mask


def _block_means(thumbnails: Pixels, rows: Ints) -> NDArray[np.float64]:
    """(len(rows), 16): the mean grey level of each block of 4×4 blocks of the thumbnails."""
    side = round(thumbnails.shape[1] ** 0.5)
    step = side // BLOCKS
    means = np.empty((len(rows), BLOCKS * BLOCKS), np.float64)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = thumbnails[rows[start : start + ROWS_AT_ONCE]]
        blocks = part.reshape(len(part), BLOCKS, step, BLOCKS, step)
        means[start : start + len(part)] = blocks.mean(axis=(2, 4)).reshape(len(part), -1)
    return means


def _keys(digests: Digests) -> NDArray[Any]:
    """Digests (N, 16) uint8 as one comparable value each: (N,)."""
    return np.ascontiguousarray(digests).view("V16").reshape(-1)
