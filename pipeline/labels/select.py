"""Choose which predictions become pseudo-labels: by confidence, and balanced over the classes.

What is chosen are a task's units: images, or pixels of them. Of equally confident units of a class
those of the smallest hash of their image's id and their number there come first, of equal hashes
those of the earlier place: the order is the same however images lie in shards.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ParameterError
from pipeline.params import SelectParams
from pipeline.tasks import Task
from pipeline.tasks.task import Choice

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Hashes = NDArray[np.uint64]
Integers = NDArray[np.int64]

MOST_NAMED = 20
STEP = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / the golden ratio


class Reason(IntEnum):
    """Why a unit is or is not among the pseudo-labels; of an image with many units the
    first of these that any has."""

    KEPT = 0
    BELOW_THRESHOLD = 1  # its confidence is under its class's threshold
    OVER_CLASS_TARGET = 2  # surer images of its class already fill class_target
    STRANGER = 3  # it shows none of the classes, and strangers are dropped

    @property
    def text(self) -> str:
        """The reason as it is written to the pseudo-labels."""
        return self.name.lower()


@dataclass(frozen=True)
class Candidates:
    """Units to select from, (n,) each, or (n, …) all those of n images.

    confidences: of the class, as stored (stored_confidences); hashes: see unit_hashes; dropped:
    those of images that count in nothing.
    """

    labels: NDArray[np.int32]
    confidences: Floats
    hashes: Hashes
    dropped: Flags

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def joined(cls, parts: Sequence[Candidates]) -> Candidates:
        """Those of all parts, one after the other."""
        kinds = {
            "labels": np.int32,
            "confidences": np.float32,
            "hashes": np.uint64,
            "dropped": bool,
        }
        return cls(
            **{
                name: np.concatenate([np.empty(0, kind), *(getattr(part, name) for part in parts)])
                for name, kind in kinds.items()
            }
        )


@dataclass(frozen=True)
class Cuts:
    """Where the order of each class is cut, (K,) each.

    A unit of at least the confidence `thresholds` is sure enough. Those of them up to the last of
    (confidence, hash, place) count `more` times, the others `fewer` times.
    """

    thresholds: Floats
    more: Integers
    fewer: Integers
    last_confidences: Floats
    last_hashes: Hashes
    last_places: Integers


def id_hashes(ids: Iterable[str]) -> Hashes:
    """A 64-bit number of each that only the image's id decides: (n,)."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(b"".join(digests), "<u8")


def unit_hashes(hashes: Hashes, numbers: NDArray[np.integer[Any]]) -> Hashes:
    """The hashes of units, of those of their images' ids and their numbers there; an image that is
    one unit, number 0, has that of its id."""
    return hashes ^ (numbers.astype(np.uint64) * STEP)


def find_cuts(
    candidates: Candidates, classes: Sequence[str], params: SelectParams, task: Task
) -> Cuts:
    """Keep the surest of each class among those sure enough, as `params` say.

    A class with fewer than its target repeats its images, surest first, up to `max_repeats` times
    each (Xie et al. 2020, section 3: balanced data); a unit that is no image counts once. Without a
    target all that are sure enough count once.
    """
    labels, confidences, hashes = candidates.labels, candidates.confidences, candidates.hashes
    count, one = len(classes), np.ones(len(classes), np.int64)
    thresholds = class_thresholds(candidates, classes, params)
    none = np.full(count, np.inf, np.float32), np.zeros(count, np.uint64), -one
    counts = np.bincount(labels[~candidates.dropped], minlength=count)
    targets = task.class_targets(counts, params)
    if targets is None:
        return Cuts(thresholds, one, one, *none)
    rows = np.flatnonzero(~candidates.dropped & (confidences >= thresholds[labels]))
    num_sure = np.bincount(labels[rows], minlength=count)
    whole, num_more = np.divmod(targets, np.maximum(num_sure, 1))
    most = params.max_repeats if task.image_classes else 1
    more, fewer = (np.minimum(times, most) for times in (whole + 1, whole))
    cuts = Cuts(thresholds, more, fewer, *none)
    cut = (num_more > 0) & (num_sure > 0)
    places = _places_of_rank(labels, confidences, hashes, rows, np.where(cut, num_more, 0))
    cuts.last_confidences[cut] = confidences[places]
    cuts.last_hashes[cut] = hashes[places]
    cuts.last_places[cut] = places
    return cuts


def _places_of_rank(
    labels: NDArray[np.int32],
    confidences: Floats,
    hashes: Hashes,
    rows: Integers,
    ranks: Integers,
) -> Integers:
    """Of each class with a rank over 0 the row that has it among `rows`, the first being 1, by
    (confidence, hash, place); ranks: (K,).

    Class and confidence are one number, whose values alone are sorted: many times faster than rows
    by three keys. Those are only where a cut is among equal confidences.
    """
    own = labels[rows]
    falling = np.uint32(0xFFFFFFFF) - confidences[rows].view(np.uint32)  # not negative: bits ascend
    keys = own.astype(np.uint64) << np.uint64(32) | falling  # none is 0
    ordered, classes = np.sort(keys), np.flatnonzero(ranks)
    starts = np.searchsorted(ordered, np.arange(len(ranks), dtype=np.uint64) << np.uint64(32))
    last = np.zeros(len(ranks), np.uint64)
    last[classes] = ordered[(starts + ranks - 1)[classes]]
    surer = np.searchsorted(ordered, last) - starts
    equal = rows[keys == last[own]]
    equal = equal[np.lexsort((hashes[equal], labels[equal]))]
    first = np.searchsorted(labels[equal], classes)
    return np.asarray(equal[first + (ranks - surer)[classes] - 1])


def select(candidates: Candidates, cuts: Cuts, places: NDArray[np.int64] | None = None) -> Choice:
    """What `cuts` mean for candidates at these places, (n,), or 0, 1, …"""
    labels, confidences, hashes = candidates.labels, candidates.confidences, candidates.hashes
    cut = Cuts(*(getattr(cuts, column.name)[labels] for column in fields(cuts)))
    sure = (confidences >= cut.thresholds) & ~candidates.dropped
    places = np.arange(len(labels)) if places is None else places
    places = places.reshape(-1, *[1] * (labels.ndim - 1))
    earlier = (hashes < cut.last_hashes) | (
        (hashes == cut.last_hashes) & (places <= cut.last_places)
    )
    surer = confidences > cut.last_confidences
    surer |= (confidences == cut.last_confidences) & earlier
    repeats = np.where(surer, cut.more, cut.fewer) * sure
    reasons = np.where(repeats > 0, Reason.KEPT, Reason.OVER_CLASS_TARGET)
    reasons = np.where(sure, reasons, Reason.BELOW_THRESHOLD)
    reasons = np.where(candidates.dropped, Reason.STRANGER, reasons)
    return Choice(repeats.astype(np.int32), reasons.astype(np.uint8))


def class_thresholds(
    candidates: Candidates, classes: Sequence[str], params: SelectParams
) -> Floats:
    """The least confidence of each class, (K,): its own where it is named, else the common one.

    Where threshold_kind is relative, a common one times (the class's images over it / those of the
    class with most), after FlexMatch (Zhang et al. 2021, eq. 5 to 7, with a linear mapping): what a
    teacher has learnt less of is not held to the confidence of what it knows best.
    """
    own = params.class_thresholds
    thresholds = np.array([own.get(k, params.confidence_threshold) for k in classes], np.float32)
    if params.threshold_kind == "fixed":
        return thresholds
    sure = ~candidates.dropped & (candidates.confidences >= thresholds[candidates.labels])
    num_sure = np.bincount(candidates.labels[sure], minlength=len(classes))
    shares = num_sure / num_sure.max() if num_sure.any() else np.ones(len(classes))
    lowered = np.where([name in own for name in classes], thresholds, thresholds * shares)
    return lowered.astype(np.float32)


def check_class_names(classes: Sequence[str], params: SelectParams) -> None:
    """Raise ParameterError where `class_thresholds` names a class that does not exist."""
    unknown = [name for name in params.class_thresholds if name not in classes]
    if not unknown:
        return
    close = difflib.get_close_matches(unknown[0], classes, n=1)
    more = ", …" if len(classes) > MOST_NAMED else ""
    known = f"did you mean {close[0]!r}? " if close else ""
    raise ParameterError(
        f"select.class_thresholds: no class is named {unknown[0]!r}; {known}there are "
        f"{', '.join(map(repr, classes[:MOST_NAMED]))}{more}"
    )
