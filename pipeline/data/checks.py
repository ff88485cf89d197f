"""What a data set must have to be trained on and tested, by the same rules before and after."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.data.assign import Side
from pipeline.errors import SourceError

NAMES_SHOWN = 5
NO_TEXT = re.compile("[\0\ud800-\udfff]")  # what neither UTF-8 nor HTML can hold


def check_classes(names: Sequence[str]) -> None:
    """Raise SourceError where class names are too few, twice the same, or no text."""
    if len(names) < 2:
        shown = f" ({names[0]!r})" if names else ""
        raise SourceError(f"the source has {len(names)} class(es){shown}; at least 2 are needed")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SourceError(f"there are two classes named {twice!r}; rename one")
    spelled: dict[str, str] = {}
    for name in names:
        if (other := spelled.setdefault(_spelling(name), name)) != name:
            raise SourceError(
                f"classes {other!r} and {name!r} differ only in case or in how they are written; "
                "make them one"
            )
        if not name.strip() or NO_TEXT.search(name):
            raise SourceError(f"class name {name!r}: must be text, and not empty; rename it")


def _spelling(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().strip()


def check_sides(
    labels: NDArray[np.int64],
    sides: NDArray[np.int64],
    classes: Sequence[str],
    validation_fraction: float,
) -> list[str]:
    """Warnings, a line each, of what can be trained but is short; labels, sides: (N,) of Side.

    Raises SourceError for what can't be trained or tested.
    """
    if missing := _missing(labels[sides == Side.LABELED], classes):
        raise SourceError(
            f"no labelled training image left of {missing}; "
            f"add labelled images, or remove the class"
        )
    if not (sides == Side.TEST).any():
        raise SourceError(
            "no test images, so nothing could be measured; raise data.test_fraction, or add some"
        )
    lines = []
    if not (sides == Side.UNLABELED).any():
        lines.append("no unlabelled images, so only the labels can teach")
    if missing := _missing(labels[sides == Side.TEST], classes):
        lines.append(f"no test image of {missing}: its accuracy stays unknown")
    if not validation_fraction:
        return lines
    if not (sides == Side.VALIDATION).any():
        lines.append("no validation images, so choices that need them are off")
    elif missing := _missing(labels[sides == Side.VALIDATION], classes):
        lines.append(f"no validation image of {missing}: choices don't heed it")
    return lines


def _missing(labels: NDArray[np.int64], classes: Sequence[str]) -> str:
    """The classes that `labels` has none of, as a list of a few names; "" where it has all."""
    counts = np.bincount(labels, minlength=len(classes))
    names = [repr(name) for name, count in zip(classes, counts, strict=True) if count == 0]
    return ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
