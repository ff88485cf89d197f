"""Which of equally sure images are taken: those of the smallest hash of their id, exactly.

The hashes are as good as evenly drawn, so where the last one taken lies is known nearly; only
those near it are held, and counted from there. Equal hashes go by the place of the image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.labels.select import Cuts

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]

DEVIATIONS = 8.0  # between the expected last hash and the ends of what is held
LARGEST = np.iinfo(np.uint64).max


@dataclass(frozen=True)
class Window:
    """Where the last hash that is taken is looked for, by class: low ≤ hash ≤ high, (K,) each."""

    low: Hashes
    high: Hashes


@dataclass(frozen=True)
class InWindow:
    """What a shard holds of tied images: how many of each class lie below the window, (K,), and
    of those inside it the labels, hashes and places, (m,)."""

    below: Numbers
    labels: NDArray[np.int32]
    hashes: Hashes
    places: Numbers


@dataclass(frozen=True)
class LastTaken:
    """By class, (K,): the hash of the last image that is taken, and its place over all shards."""

    hashes: Hashes
    places: Numbers

    @classmethod
    def none(cls, num_classes: int) -> LastTaken:
        """Where no image is taken."""
        return cls(np.zeros(num_classes, np.uint64), np.full(num_classes, -1, np.int64))

    def takes(
        self, labels: NDArray[np.int32], hashes: Hashes, places: Numbers
    ) -> NDArray[np.bool_]:
        """Whether each of these tied images, (n,), is taken."""
        last = self.hashes[labels]
        taken: NDArray[np.bool_] = (hashes < last) | (
            (hashes == last) & (places <= self.places[labels])
        )
        return taken


def tie_breaker(identity: str) -> int:
    """A 64-bit number that only the image's id decides."""
    return int.from_bytes(_hash(identity), "little")


def tie_breakers(ids: Iterable[str]) -> Hashes:
    """The same of many: (n,)."""
    return np.frombuffer(b"".join(_hash(identity) for identity in ids), "<u8")


def expected_window(cuts: Cuts) -> Window:
    """Where the last hash taken lies, but for one in 10¹⁴ evenly drawn sets."""
    count = np.maximum(cuts.tied, 1)
    share = cuts.taken / count
    reach = DEVIATIONS * np.sqrt(share * (1 - share) / count) + DEVIATIONS / count
    return Window(_as_hash(share - reach), _as_hash(share + reach))


def widest_window(num_classes: int) -> Window:
    """Every hash."""
    return Window(np.zeros(num_classes, np.uint64), np.full(num_classes, LARGEST, np.uint64))


def in_window(
    labels: NDArray[np.int32], hashes: Hashes, places: Numbers, window: Window
) -> InWindow:
    """What is to be known of tied images, (n,), to find the last that is taken."""
    below = hashes < window.low[labels]
    inside = ~below & (hashes <= window.high[labels])
    counts = np.bincount(labels[below], minlength=len(window.low))
    return InWindow(counts, labels[inside], hashes[inside], places[inside])


def last_taken(parts: Iterable[InWindow], cuts: Cuts) -> LastTaken | None:
    """The last image taken of each class, from all shards; None where a window missed one."""
    num_classes = len(cuts.taken)
    below, found = np.zeros(num_classes, np.int64), []
    for part in parts:
        below += part.below
        if len(part.labels):
            found.append((part.labels, part.hashes, part.places))
    if not found:
        return None
    labels, hashes, places = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((places, hashes, labels))
    counts = np.bincount(labels, minlength=num_classes)
    last = LastTaken.none(num_classes)
    first = np.cumsum(counts) - counts
    for label in np.flatnonzero(cuts.taken):
        rank = cuts.taken[label] - below[label] - 1
        if not 0 <= rank < counts[label]:
            return None
        row = order[first[label] + rank]
        last.hashes[label], last.places[label] = hashes[row], places[row]
    return last


def _hash(identity: str) -> bytes:
    return hashlib.blake2b(identity.encode(), digest_size=8).digest()


def _as_hash(shares: NDArray[np.float64]) -> Hashes:
    """Shares of the range of a hash, (K,), cut to it, as hashes."""
    ends = [min(max(int(share * 2.0**64), 0), LARGEST) for share in shares.tolist()]
    return np.array(ends, np.uint64)
