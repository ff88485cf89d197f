"""What every source gives: rows of image bytes, and the names of the classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Row:
    """One image of a source.

    label: index in the source's classes, None where unlabelled; split: one of SPLITS, None where
    the source leaves it open; problem: why the bytes could not be had, None where they could;
    group: what must lie on one side of a split (a patient, a camera), None for the image alone;
    content: what the source holds of it, None where that is `image`.
    """

    id: str
    image: bytes
    label: int | None = None
    split: str | None = None
    problem: str | None = None
    group: str | None = None
    content: bytes | None = None


class Source(Protocol):
    """Images that a user has; reading it twice gives the same rows in the same order."""

    @property
    def name(self) -> str:
        """The source's kind, as in `data.source`."""

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the labels."""

    def __len__(self) -> int:
        """The number of rows."""

    def rows(self) -> Iterator[Row]:
        """Every image, one after the other."""
