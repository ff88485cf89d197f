"""What every source gives: rows of image bytes, and the names of the classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

Item = TypeVar("Item")

NAMES_SHOWN = 10
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class MaskFile:
    """A mask as its file's bytes.

    values: pairs of a value and its class, 255 for a pixel to ignore, as pipeline.data.masks has
    them; others: the class of all other values, None where they have none.
    """

    data: bytes
    values: tuple[tuple[int, int], ...]
    others: int | None = None


@dataclass(frozen=True)
class Row:
    """One image of a source.

    label: what the task reads: index in the source's classes, or a MaskFile; None where unlabelled;
    split: one of SPLITS, None where the source leaves it open; problem: why the bytes could not be
    had, None where they could; group: what must lie on one side of a split (a patient, a camera),
    None for the image alone; content: what the source holds of it, None where that is `image`.
    """

    id: str
    image: bytes
    label: Any = None
    split: str | None = None
    problem: str | None = None
    group: str | None = None
    content: bytes | None = None


def reasons(left_out: Iterable[tuple[str, str]]) -> list[tuple[str, int, str]]:
    """(reason, count, a name) of what was left out, the most frequent reason first."""
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}
    for name, reason in left_out:
        counts[reason] += 1
        names.setdefault(reason, name)
    return [(reason, count, names[reason]) for reason, count in counts.most_common()]


def in_words(left_out: Iterable[tuple[str, str]], most: int | None = None) -> str:
    """What was left out in one line: a count, a reason and a name each, or "none".

    most: the number of reasons that are shown, None for all.
    """
    shown = [f"{count} {reason} (e.g. {name!r})" for reason, count, name in reasons(left_out)]
    if most is not None and len(shown) > most:
        shown[most:] = ["…"]
    return "; ".join(shown) or "none"


def listed(items: Sequence[str], most: int = NAMES_SHOWN, between: str = ", ") -> str:
    """The first few of them in words."""
    return between.join([*items[:most], *["…"] * (len(items) > most)])


def in_batches(
    items: Iterable[Item], most: int, most_bytes: int, size: Callable[[Item], int]
) -> Iterator[list[Item]]:
    """Yield items by `most`, or fewer as soon as their sizes come to `most_bytes`."""
    batch, taken = list[Item](), 0
    for item in items:
        batch.append(item)
        taken += size(item)
        if len(batch) == most or taken >= most_bytes:
            yield batch
            batch, taken = [], 0
    if batch:
        yield batch


class Source(Protocol):
    """Images that a user has; reading it twice gives the same rows in the same order."""

    @property
    def name(self) -> str:
        """The source's kind, as in `data.source`."""

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the labels."""

    @property
    def left_out(self) -> Sequence[tuple[str, str]]:
        """(name, reason) of every file that is no row."""

    @property
    def notes(self) -> list[str]:
        """What was taken for what, where the source had to decide, in lines."""

    def __len__(self) -> int:
        """The number of rows."""

    @property
    def rows_together(self) -> int:
        """Rows that can only be read from their first on, as those of a row group; else 1."""

    def rows(self) -> Iterator[Row]:
        """Every image, one after the other."""

    def part(self, first: int, stop: int) -> Iterable[Row]:
        """The rows from `first` to before `stop`; small to send to another process."""
