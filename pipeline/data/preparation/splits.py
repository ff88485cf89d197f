"""Which side an image falls on: by a hash of its content and the seed, never by its place.

So the same image falls on the same side, in whatever order it comes and however it is stored; each
class gives its share, so that an image more moves at most one other.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ParameterError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

UNLABELED = -1


def unit_hash(content_digest: bytes, seed: int, purpose: str) -> float:
    """A number in [0, 1), uniform over digests and independent between purposes and seeds."""
    text = f"{purpose}:{seed}:".encode() + content_digest
    return (int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 11) / 2**53


def unit_hashes(digests: NDArray[np.uint8], seed: int, purpose: str) -> Floats:
    """`unit_hash` of each row of digests: (N, 16) uint8; returns (N,) float64."""
    return np.array([unit_hash(row.tobytes(), seed, purpose) for row in digests], np.float64)


def stratified_share(
    labels: Ints, groups: NDArray[np.integer[Any]], order: Ints, fraction: float
) -> Mask:
    """Which labelled rows are held out: of each class its share, rounded, but never all.

    labels: (N,), UNLABELED rows are never taken; groups: (N,), rows of one number are taken whole
    or not at all, a negative number stands alone; order: (N,) ranks, lowest first, those of a group
    side by side. A group is taken where that brings the classes nearer to their shares.
    """
    counts = np.bincount(labels[labels != UNLABELED])
    shares = np.minimum((fraction * counts + 0.5).astype(np.int64), counts - 1).tolist()
    rows = np.flatnonzero(labels != UNLABELED)
    rows = rows[np.argsort(order[rows], kind="stable")]
    own = groups[rows]
    starts = np.flatnonzero((own[1:] != own[:-1]) | (own[1:] < 0)) + 1
    taken = np.zeros(len(labels), bool)
    open_shares, remaining = list(shares), counts.tolist()
    for unit in np.split(rows, starts):
        classes = Counter(labels[unit].tolist())
        gain = sum(
            abs(open_shares[label]) - abs(open_shares[label] - count)
            for label, count in classes.items()
        )
        if gain > 0 and all(remaining[label] > count for label, count in classes.items()):
            taken[unit] = True
            for label, count in classes.items():
                open_shares[label] -= count
                remaining[label] -= count
    return taken


def even_quota(counts: Ints, total: int, priority: Floats) -> Ints:
    """Share `total` over classes as evenly as their counts allow: (C,) summing to `total`.

    What is left over goes one each to the classes of the lowest priority number.
    """
    quota = np.zeros_like(counts)
    remaining = total
    while remaining:
        open_classes = np.flatnonzero(counts > quota)
        share = remaining // len(open_classes)
        if share == 0:
            order = open_classes[np.argsort(priority[open_classes], kind="stable")]
            quota[order[:remaining]] += 1
            break
        added = np.minimum(share, counts[open_classes] - quota[open_classes])
        quota[open_classes] += added
        remaining -= int(added.sum())
    return quota


def class_priority(num_classes: int, seed: int) -> Floats:
    """A random order of the classes, for what an even share leaves over: (C,) float64."""
    return np.array(
        [unit_hash(f"class {index}".encode(), seed, "remainder") for index in range(num_classes)]
    )


def choose_budget(
    labels: Ints,
    order: Ints,
    given_validation: Mask,
    *,
    budget: int,
    num_classes: int,
    validation_fraction: float,
    priority: Floats,
) -> tuple[Mask, Mask]:
    """The labelled images that a budget keeps: masks (training, validation) over all rows.

    labels: (N,), UNLABELED where there is none or the row is out of reach (test). order: (N,)
    ranks, lowest first. The classes share the budget evenly, and of each share
    round(validation_fraction × share) images, but never all, are for validation. Where the source
    names validation images they come from those, and training images from the others. Raises
    ParameterError where the budget can't be met.
    """
    if validation_fraction == 0:
        labels = np.where(given_validation, UNLABELED, labels)
    counts = np.bincount(labels[labels != UNLABELED], minlength=num_classes).astype(np.int64)
    if budget > counts.sum():
        raise ParameterError(
            f"data.labels = {budget}: only {counts.sum()} usable labelled images are not test "
            "images; lower it, or null for all"
        )
    if budget < num_classes:
        raise ParameterError(
            f"data.labels = {budget}: must be at least {num_classes}, one image of each class"
        )
    training, validation = np.zeros(len(labels), bool), np.zeros(len(labels), bool)
    for label, share in enumerate(even_quota(counts, budget, priority).tolist()):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(order[rows], kind="stable")]
        held = min(int(validation_fraction * share + 0.5), max(share - 1, 0))
        can_hold = rows[given_validation[rows]] if given_validation.any() else rows[:held]
        can_train = rows[~np.isin(rows, can_hold)]
        trained = min(share - min(held, len(can_hold)), len(can_train))
        training[can_train[:trained]] = True
        validation[can_hold[: share - trained]] = True
    return training, validation
