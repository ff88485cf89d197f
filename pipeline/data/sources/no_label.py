"""Which values of a column of labels mean that there is none, and which mean several."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from pipeline.data.sources.layout import part_of

NONE = {"", "na", "nan", "null", "n/a", "#n/a", "<na>", "nil", "nolabel", "missing"}
DOUBTFUL = {"none", "-1", "-1.0"}  # of other classes the names, where these are few
SEVERAL = re.compile(r"\s*[|;,]\s*")


def means_none(value: str) -> bool:
    """Whether a label says that there is none, whatever the others are."""
    return value.strip().lower() in NONE or part_of(value) == "unlabeled"


def without_label(values: Iterable[str]) -> set[str]:
    """The values that mean no label.

    "none" and "-1" do, but where empty ones do already, or fewer than two classes were left.
    """
    counts = Counter(values)
    empty = {value for value in counts if means_none(value)}
    doubtful = {value for value in counts if value.strip().lower() in DOUBTFUL}
    classes = counts.keys() - empty - doubtful
    return empty if (empty and _is_word(doubtful)) or len(classes) < 2 else empty | doubtful


def _is_word(doubtful: set[str]) -> bool:
    return any(value.strip().lower() == "none" for value in doubtful)


def several_classes(values: Iterable[str]) -> str | None:
    """A label that names several of the others, as "cat|dog" beside "cat"; None without one."""
    names = set(values)
    for value in sorted(names):
        parts = SEVERAL.split(value)
        if len(parts) > 1 and all(part in names for part in parts if part):
            return value
    return None
