"""The order in which data that does not fit into memory is gone through: arithmetic, no reading.

Rows lie in blocks, which are read whole. In each epoch the blocks come in a seeded order; rows that
follow each other in it form windows, which are held in memory at once and are shuffled. Window
after window gives one endless row, of which batches are cut as in `batches`: global batch k is a
function of (seed, k), whatever the number of workers.

The places of a window belong to LANES in turn, and a lane's rows are of few blocks: a worker that
takes every n-th place, n a divisor of LANES, reads its own part of the blocks and little else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

LANES = 64


@dataclass(frozen=True)
class Piece:
    """A part of a global batch that lies in one window.

    places: where in the window, batch: where in the batch, (m,) each.
    """

    epoch: int
    window: int
    places: Integers
    batch: Integers


@dataclass(frozen=True, eq=False)
class StreamOrder:
    """The order of all items of some blocks; a row that counts several times is as many items.

    counts: (B,) items of each block; window_size: items held at once, a multiple of LANES.
    """

    counts: Integers
    window_size: int
    seed: int

    @cached_property
    def count(self) -> int:
        """The number of items."""
        return int(self.counts.sum())

    @cached_property
    def first(self) -> Integers:
        """The number of the first item of each block."""
        return np.cumsum(self.counts) - self.counts

    @property
    def num_windows(self) -> int:
        """The number of windows of an epoch."""
        return -(-self.count // self.window_size)

    def batch(self, step: int, batch_size: int) -> Iterator[Piece]:
        """The pieces of global batch `step`, in order; no rows are a ValueError."""
        if self.count < 1 or batch_size < 1 or step < 0:
            raise ValueError(f"no batch for {step=}, {batch_size=}, count={self.count}")
        at, end = step * batch_size, (step + 1) * batch_size
        while at < end:
            epoch, inside = divmod(at, self.count)
            window, place = divmod(inside, self.window_size)
            stop = min(end - at, self.count - inside, self.window_size - place)
            run = np.arange(stop)
            yield Piece(epoch, window, place + run, at - step * batch_size + run)
            at += stop

    def items(self, epoch: int, window: int) -> Integers:
        """The items of a window, by place."""
        return _placed(self, epoch, window)

    def share(self, epoch: int, window: int, rank: int, world_size: int) -> Integers:
        """The items of a window, in no order, that one worker takes of batches it shares evenly."""
        placed = self.items(epoch, window)
        start = epoch * self.count + window * self.window_size
        return placed[(rank - start) % world_size :: world_size]

    def after(self, epoch: int, window: int) -> tuple[int, int]:
        """The window after a window: its epoch and number."""
        return (epoch, window + 1) if window + 1 < self.num_windows else (epoch + 1, 0)


def window_size_for(images: int) -> int:
    """The largest window of at most so many images, or the least there can be."""
    return max(1, images // LANES) * LANES


@lru_cache(maxsize=4)
def _blocks_of(order: StreamOrder, epoch: int) -> tuple[Integers, Integers]:
    """The blocks in the order of an epoch, and where in it each ends."""
    blocks = np.random.default_rng([order.seed, epoch]).permutation(len(order.counts))
    return blocks, np.cumsum(order.counts[blocks])


@lru_cache(maxsize=4)
def _placed(order: StreamOrder, epoch: int, window: int) -> Integers:
    blocks, ends = _blocks_of(order, epoch)
    start = window * order.window_size
    sequence = np.arange(start, min(start + order.window_size, order.count))
    at = np.searchsorted(ends, sequence, side="right")
    block = blocks[at]
    items = order.first[block] + sequence - (ends[at] - order.counts[block])
    draw = np.random.default_rng([order.seed, epoch, window])
    placed, begin = np.empty_like(items), 0
    for lane in range(LANES):
        places = placed[lane::LANES]
        places[:] = draw.permutation(items[begin : begin + len(places)])
        begin += len(places)
    placed.setflags(write=False)
    return placed
