"""Find the same image twice: exactly, by a digest of its pixels, or nearly, by what it looks like.

Two images are nearly one only where nothing but compression or scaling tells them apart. Three
things must hold: their grey thumbnails differ by no more than a distance; they differ far less than
the image does from those next to it, since frames of one camera, drawings on white and views of the
sea all lie close; and pixel by pixel they differ far less than their own contrast.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.images import Pixels

Digests = NDArray[np.uint8]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
PixelsOf = Callable[[Ints], dict[int, Pixels]]

ROWS_AT_ONCE, PAIRS_AT_ONCE = 4096, 256
FEWEST_QUERIES = 64
SEARCH = threading.Lock()  # faiss, which has threads of its own, crashes where two search at once
NEIGHBORS = 11  # the nearest one, and ten that say how near images lie here
FEWEST_COMPARED = 1000  # images that these ten are found among, where there are as many
# Of 80 photographs of objects, recompressed (JPEG 30 to 90) or scaled (0.5 to 1.5), 19 of 20 copies
# are within 0.25 of the contrast, half within 0.14; the 14 of 1,016 photographs that have a copy
# among them are within 0.03 of the spread. Other images are at 0.6 of the spread or farther, and
# outlines that moved by half a stored pixel at 0.28 of the contrast.
LARGEST_SPREAD, LARGEST_CONTRAST = 0.2, 0.2


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
    _, group = np.unique(digest_keys(digests[rows]), return_inverse=True)
    lowest = np.full(group.max(initial=-1) + 1, np.iinfo(np.int64).max)
    highest = np.full(group.max(initial=-1) + 1, -1)
    np.minimum.at(lowest, group, labels[rows])
    np.maximum.at(highest, group, labels[rows])
    mask = np.zeros(len(labels), bool)
    mask[rows] = (lowest != highest)[group]
    return mask


def exact_copies(digests: Digests, rows: Ints, held_out: Ints) -> Ints:
    """Of each of `rows` one of the rows `held_out` of the very same pixels, -1 for none.

    digests: (N, 16) uint8.
    """
    copies = np.full(len(rows), -1, np.int64)
    if len(held_out):
        keys, first = np.unique(digest_keys(digests[held_out]), return_index=True)
        row_keys = digest_keys(digests[rows])
        places = np.searchsorted(keys, row_keys).clip(max=len(keys) - 1)
        same = keys[places] == row_keys
        copies[same] = held_out[first[places[same]]]
    return copies


def compared_rows(digests: Digests, rows: Ints, held_out: Ints) -> tuple[Ints, int]:
    """The rows that others are compared with: each held-out picture once, so many, and, where these
    are few, some of `rows` that say how near images lie."""
    _, first = np.unique(digest_keys(digests[held_out]), return_index=True)
    few = max(0, FEWEST_COMPARED - len(first))
    some = rows[np.argsort(digest_keys(digests[rows]))[:few]] if few else rows[:0]
    return np.concatenate([held_out[first], some]), len(first)


@dataclass(frozen=True)
class Compared:
    """What images are compared with: M of them, the first `num_held_out` held out.

    rows: (M,); thumbnails: (M, P) uint8; distance: the largest mean grey-level difference of
    thumbnails of one picture, 0 to 255.
    """

    rows: Ints
    thumbnails: Pixels
    num_held_out: int
    distance: float

    def nearest(self, rows: Ints, thumbnails: Pixels) -> Ints:
        """The nearest held-out row of each, -1 where it is farther than `distance` or hardly nearer
        than the others; rows: (n,); thumbnails: (n, P) uint8, of these."""
        copies, count = np.full(len(rows), -1, np.int64), min(NEIGHBORS + 1, len(self.rows))
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[start : start + ROWS_AT_ONCE]
            own = thumbnails[start : start + ROWS_AT_ONCE]
            places = self._search(own, count)
            near = self.rows[places]
            gaps = np.abs(self.thumbnails[places].astype(np.int16) - own[:, None]).mean(axis=2)
            gaps[near == part[:, None]] = np.inf
            held_out = np.where(places < self.num_held_out, gaps, np.inf)
            nearest, every = held_out.argmin(axis=1), np.arange(len(part))
            least = held_out[every, nearest]
            gaps[every, nearest] = np.inf
            close = (least <= self.distance) & (least <= LARGEST_SPREAD * _middle(gaps))
            copies[start : start + len(part)] = np.where(close, near[every, nearest], -1)
        return copies

    def _search(self, own: Pixels, count: int) -> Ints:
        """The places of the nearest so many of each of `own`, (n, count).

        Faiss computes distances of few in another way, whose last bits differ: so there are always
        many, and an image's neighbours do not depend on what is searched together.
        """
        queries = np.zeros((max(len(own), FEWEST_QUERIES), own.shape[1]), np.float32)
        queries[: len(own)] = own
        with SEARCH:
            places: Ints = self._index.search(queries, count)[1]
        return places[: len(own)]

    @cached_property
    def _index(self) -> Any:
        """An exact index of the thumbnails."""
        import faiss

        index = faiss.IndexFlatL2(self.thumbnails.shape[1])
        for start in range(0, len(self.rows), ROWS_AT_ONCE):
            index.add(self.thumbnails[start : start + ROWS_AT_ONCE].astype(np.float32))
        return index


def same_pictures(rows: Ints, copies: Ints, pixels_of: PixelsOf) -> Ints:
    """`copies`, with -1 where the pixels of a row and of its copy differ too much; pixels_of: the
    images (S, S, C) uint8 of some rows, ascending, by row."""
    copies = copies.copy()
    pairs = np.flatnonzero(copies >= 0)
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        part = pairs[start : start + PAIRS_AT_ONCE]
        pixels = pixels_of(np.unique(np.concatenate([rows[part], copies[part]])))
        for place in part.tolist():
            if not same_picture(pixels[int(rows[place])], pixels[int(copies[place])]):
                copies[place] = -1
    return copies


def same_picture(one: Pixels, other: Pixels) -> bool:
    """Whether two images (S, S, C) differ by far less than what either shows."""
    first, second = one.astype(np.float64), other.astype(np.float64)
    gap = np.sqrt(np.square(first - second).mean())
    contrasts = [np.sqrt(each.var(axis=(0, 1)).mean()) for each in (first, second)]
    return bool(gap <= LARGEST_CONTRAST * min(contrasts))


def _middle(gaps: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lower median of the finite values of each row, -1 where there are none."""
    counts = np.isfinite(gaps).sum(axis=1)
    middle = np.sort(gaps, axis=1)[np.arange(len(gaps)), np.maximum(counts - 1, 0) // 2]
    return np.where(counts > 0, middle, -1.0)


def digest_keys(digests: Digests) -> NDArray[Any]:
    """Digests (N, 16) uint8 as one comparable value each: (N,)."""
    return np.ascontiguousarray(digests).view("V16").reshape(-1)
