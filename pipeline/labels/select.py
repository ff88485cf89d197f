"""Choose which predictions become pseudo-labels: by confidence, and balanced over the classes.

Of equally confident images of a class those of the smallest hash of their id come first, of equal
hashes those of the earlier place: the order is the same however images lie in shards.
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

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Hashes = NDArray[np.uint64]
Integers = NDArray[np.int64]

MOST_NAMED = 20


class Reason(IntEnum):
    """Why an image is or is not among the pseudo-labels."""

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
    """n predictions to select from, (n,) each.

    confidences: of the class, as stored (stored_confidences); hashes: of the ids; dropped: images
    that count in nothing.
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

    An image of at least the confidence `thresholds` is sure enough. Those of them up to the last of
    (confidence, hash, place) count `more` times, the others `fewer` times.
    """

    thresholds: Floats
    more: Integers
    fewer: Integers
    last_confidences: Floats
    last_hashes: Hashes
    last_places: Integers


@dataclass(frozen=True)
class Selection:
    """For each image, how often it counts (0: not at all) and why; both (N,)."""

    repeats: NDArray[np.int32]
    reasons: NDArray[np.uint8]


def stored_confidences(log_confidences: NDArray[Any]) -> Floats:
    """Confidences (n,) as stored log-probabilities say them; above 1, by rounding, is 1."""
    halves = np.minimum(log_confidences.astype(np.float16), np.float16(0))
    return np.exp(halves.astype(np.float32))


def id_hashes(ids: Iterable[str]) -> Hashes:
    """A 64-bit number of each that only the image's id decides: (n,)."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(b"".join(digests), "<u8")


def find_cuts(candidates: Candidates, classes: Sequence[str], params: SelectParams) -> Cuts:
    """Keep the surest of each class among those sure enough, as `params` say.

    A class with fewer than its target repeats its images, surest first, up to `max_repeats` times
    each (Xie et al. 2020, section 3: balanced data). Without a target all that are sure enough
    count once.
    """
    labels, confidences, hashes = candidates.labels, candidates.confidences, candidates.hashes
    count, one = len(classes), np.ones(len(classes), np.int64)
    thresholds = class_thresholds(candidates, classes, params)
    none = np.full(count, np.inf, np.float32), np.zeros(count, np.uint64), -one
    target = class_target(int((~candidates.dropped).sum()), count, params)
    if target is None:
        return Cuts(thresholds, one, one, *none)
    rows = np.flatnonzero(~candidates.dropped & (confidences >= thresholds[labels]))
    num_sure = np.bincount(labels[rows], minlength=count)
    whole, num_more = np.divmod(target, np.maximum(num_sure, 1))
    more, fewer = (np.minimum(times, params.max_repeats) for times in (whole + 1, whole))
    cuts = Cuts(thresholds, more, fewer, *none)
    order = rows[np.lexsort((hashes[rows], -confidences[rows], labels[rows]))]
    cut = (num_more > 0) & (num_sure > 0)
    places = order[(np.cumsum(num_sure) - num_sure + num_more - 1)[cut]]
    cuts.last_confidences[cut] = confidences[places]
    cuts.last_hashes[cut] = hashes[places]
    cuts.last_places[cut] = places
    return cuts


def select(candidates: Candidates, cuts: Cuts, first: int = 0) -> Selection:
    """What `cuts` mean for candidates whose places are `first`, `first` + 1, …"""
    labels, confidences, hashes = candidates.labels, candidates.confidences, candidates.hashes
    cut = Cuts(*(getattr(cuts, column.name)[labels] for column in fields(cuts)))
    sure = (confidences >= cut.thresholds) & ~candidates.dropped
    places = first + np.arange(len(labels))
    earlier = (hashes < cut.last_hashes) | (
        (hashes == cut.last_hashes) & (places <= cut.last_places)
    )
    surer = confidences > cut.last_confidences
    surer |= (confidences == cut.last_confidences) & earlier
    repeats = np.where(surer, cut.more, cut.fewer) * sure
    reasons = np.where(repeats > 0, Reason.KEPT, Reason.OVER_CLASS_TARGET)
    reasons = np.where(sure, reasons, Reason.BELOW_THRESHOLD)
    reasons = np.where(candidates.dropped, Reason.STRANGER, reasons)
    return Selection(repeats.astype(np.int32), reasons.astype(np.uint8))


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


def class_target(num_images: int, num_classes: int, params: SelectParams) -> int | None:
    """The number of images wanted of each class; None where classes are not
    balanced (fraction_per_class: null)."""
    if params.images_per_class is not None:
        return params.images_per_class
    if params.fraction_per_class is None:
        return None
    return max(1, round(params.fraction_per_class * num_images / num_classes))


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
