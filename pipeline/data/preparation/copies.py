"""Find the images that show what a held-out one shows, over the slices of a source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.data.images import Pixels
from pipeline.data.preparation.duplicates import (
    Compared,
    Digests,
    Ints,
    compared_rows,
    exact_copies,
    same_pictures,
)
from pipeline.data.preparation.slices import Part, Slices
from pipeline.mapping import MapItems
from pipeline.progress import progress


@dataclass(frozen=True)
class CopySearch:
    """Exact copies by the digests of pixels, (N, 16) uint8; near ones a slice at a time.

    distance: see Compared, 0 for exact copies only.
    """

    digests: Digests
    slices: Slices
    distance: float
    map_items: MapItems

    def __call__(self, rows: Ints, held_out: Ints) -> Ints:
        """Of each of `rows` one of `held_out` that shows the same picture, -1 for none; both
        ascending."""
        copies = exact_copies(self.digests, rows, held_out)
        others = np.flatnonzero(copies < 0)
        if self.distance > 0 and len(held_out) and len(others):
            search = partial(near_copies, self.slices, self._compared(rows, held_out))
            with progress("prepare: copies", len(others)) as advance:
                found, done = self.map_items(search, self.slices.parts(rows[others])), 0
                for near in found:
                    copies[others[done : done + len(near)]] = near
                    done += len(near)
                    advance(len(near))
        return copies

    def _compared(self, rows: Ints, held_out: Ints) -> Compared:
        """What all others are compared with, which every task gets."""
        places, num_held_out = compared_rows(self.digests, rows, held_out)
        order = np.argsort(places, kind="stable")
        parts = self.map_items(self.slices.thumbnails, self.slices.parts(places[order]))
        thumbnails = _in_order(parts, order)
        return Compared(places, thumbnails, num_held_out, self.distance)


def near_copies(slices: Slices, compared: Compared, part: Part) -> Ints:
    """Of some rows of a slice the held-out row that each is nearly the same as, (n,), -1 for
    none."""
    number, places = part
    rows = places + slices.starts[number]
    nearest = compared.nearest(rows, slices.thumbnails(part))
    return same_pictures(rows, nearest, slices.pixels)


def _in_order(parts: Iterable[Pixels], order: Ints) -> Pixels:
    """(n, P) of parts that follow each other, the i-th row of all at place order[i]."""
    iterator: Iterator[Pixels] = iter(parts)
    first = next(iterator)
    whole, done = np.empty((len(order), first.shape[1]), np.uint8), 0
    for part in (first, *iterator):
        whole[order[done : done + len(part)]] = part
        done += len(part)
    return whole
