"""How sure a prediction must be, class by class."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ParameterError

Floats = NDArray[np.float32]
MOST_NAMED = 20


def check_class_names(
    classes: Sequence[str], named: Mapping[str, float], key: str = "select.class_thresholds"
) -> None:
    """Raise ParameterError where `named`, the parameter `key`, has a class that does not exist."""
    unknown = [name for name in named if name not in classes]
    if not unknown:
        return
    close = difflib.get_close_matches(unknown[0], classes, n=1)
    more = ", …" if len(classes) > MOST_NAMED else ""
    known = f"did you mean {close[0]!r}? " if close else ""
    raise ParameterError(
        f"{key}: no class is named {unknown[0]!r}; {known}there are "
        f"{', '.join(map(repr, classes[:MOST_NAMED]))}{more}"
    )


def fixed_thresholds(
    classes: Sequence[str], confidence_threshold: float, class_thresholds: Mapping[str, float]
) -> Floats:
    """The threshold of each class, (K,): its own where it is named, else the common one."""
    values = [class_thresholds.get(name, confidence_threshold) for name in classes]
    return np.array(values, np.float32)


def relative_thresholds(
    num_sure: NDArray[np.int64], thresholds: Floats, own: NDArray[np.bool_]
) -> Floats:
    """Thresholds (K,) lowered for classes of which fewer images are sure.

    num_sure: (K,) the images of each class over `thresholds`. A class's threshold times (that
    number / that of the class with most), after FlexMatch (Zhang et al. 2021, eq. 5 to 7, with a
    linear mapping): what a teacher has learnt less of is not held to the confidence of what it
    knows best. Classes in `own` (K,) keep theirs. Where no image is sure all do.
    """
    share = num_sure / num_sure.max() if num_sure.any() else np.ones(len(thresholds))
    lowered: Floats = np.where(own, thresholds, thresholds * share).astype(np.float32)
    return lowered
