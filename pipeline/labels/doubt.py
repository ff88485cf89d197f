"""Of which unlabelled images a person's label would teach most: doubtful, disagreed on, diverse."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Columns = tuple[NDArray[Any], ...]
AGAIN = 0.9
ROWS_AT_ONCE = 4096  # that wait until the best of them are found


def margins(probabilities: Floats) -> Floats:
    """How much likelier the likeliest class is than the next: (N, K), K ≥ 2, to (N,)."""
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    margin: Floats = two[:, 1] - two[:, 0]
    return margin


def disagreement(members: Sequence[Floats]) -> Floats:
    """How far models differ on each image, 0 (not at all) to 1 (as far as they can): (N,).

    members: M arrays (N, K) of probabilities. It is the Jensen-Shannon divergence of their equal
    mixture over its largest value, log min(M, K), (Lin 1991), as for a committee that is asked
    for its doubts (McCallum and Nigam 1998). One model disagrees with nobody.
    """
    if len(members) == 1:
        return np.zeros(len(members[0]), np.float32)
    mean = np.mean(members, axis=0)
    spread = _entropy(mean) - np.mean([_entropy(member) for member in members], axis=0)
    most = np.log(min(len(members), members[0].shape[1]))
    shares: Floats = np.clip(spread / most, 0, 1).astype(np.float32)
    return shares


def doubt(members: Sequence[Floats]) -> Floats:
    """1 - the margin of the models' mean, plus their disagreement; arrays as in `disagreement`."""
    score: Floats = 1 - margins(np.mean(members, axis=0)) + disagreement(members)
    return score


def image_doubts(members: Sequence[Floats]) -> tuple[Floats, NDArray[np.int64]]:
    """The mean doubt of the units of each image, (N,), and the pair of classes with most of it.

    members: M arrays (N, U, K) of probabilities, all 0 of units that count in nothing.
    """
    shape = members[0].shape[:2]
    units = [member.reshape(-1, member.shape[2]) for member in members]
    counting = (units[0].sum(axis=1) > 0).reshape(shape)
    doubts = np.where(counting, doubt(units).reshape(shape), np.float32(0))
    pairs = class_pairs(np.mean(units, axis=0)).reshape(shape)
    if shape[1] == 1:
        return doubts[:, 0], pairs[:, 0]
    means: Floats = doubts.sum(axis=1) / counting.sum(axis=1).clip(1).astype(np.float32)
    most = np.empty(len(pairs), np.int64)
    for row, (own, weights) in enumerate(zip(pairs, doubts, strict=True)):
        found, places = np.unique(own, return_inverse=True)
        most[row] = found[np.bincount(places, weights).argmax()]
    return means, most


def diverse(
    scores: Floats, groups: NDArray[np.int64], count: int, again: float = AGAIN
) -> list[int]:
    """The rows of the `count` highest scores, best first, where each more of a group counts less.

    scores, groups: (N,), not negative; a group is such as the pair of classes that an image lies
    between. A row's score is multiplied by `again`, at most 1, for every row of its group chosen
    before it. Of equal values the earlier row is first.
    """
    rows = np.arange(len(scores))
    order = np.lexsort((rows, -scores, groups))
    starts = np.diff(groups[order], prepend=-1) != 0
    first = np.maximum.accumulate(np.where(starts, rows, 0))
    values = np.empty(len(scores))
    values[order] = scores[order] * again ** (rows - first)
    best: list[int] = np.lexsort((rows, -values))[:count].tolist()
    return best


def narrowed(parts: Iterable[Columns], best: Callable[[Columns], Iterable[int]]) -> Columns:
    """Of images in parts, columns (n, …) of each, those that `best` finds of all; in their order.

    best: the places of some, such as `diverse`, which of any part that holds them are the same. So
    no more than they and some parts are in memory. Of no parts ().
    """
    waiting = list[Columns]()
    for part in parts:
        waiting.append(part)
        if sum(len(columns[0]) for columns in waiting) >= ROWS_AT_ONCE:
            waiting = [_best(waiting, best)]
    return _best(waiting, best) if waiting else ()


def _best(parts: Sequence[Columns], best: Callable[[Columns], Iterable[int]]) -> Columns:
    joined = tuple(np.concatenate(column) for column in zip(*parts, strict=True))
    places = sorted(set(best(joined)))
    return tuple(column[places] for column in joined)


def class_pairs(probabilities: Floats) -> NDArray[np.int64]:
    """A number for the pair of an image's two likeliest classes: (N, K), K ≥ 2, to (N,)."""
    two = np.sort(np.argpartition(probabilities, -2, axis=1)[:, -2:], axis=1).astype(np.int64)
    pairs: NDArray[np.int64] = two[:, 0] * probabilities.shape[1] + two[:, 1]
    return pairs


def pair_names(pair: int, classes: Sequence[str]) -> str:
    """A pair of class_pairs in words: "cat or dog"."""
    return " or ".join(classes[place] for place in divmod(pair, len(classes)))


def _entropy(probabilities: Floats) -> Floats:
    logs = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    entropy: Floats = -(probabilities * logs).sum(axis=1)
    return entropy
