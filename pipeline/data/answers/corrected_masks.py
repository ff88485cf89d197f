"""Masks that a person corrected: PNGs beside corrections.csv, whose lines name them by content.

    corrections/NAMES/classes.json   the classes by their numbers in the masks
    corrections/NAMES/MASK.png       a mask at its image's own size, 255: ignored

NAMES and MASK are digests of the file's content. So a line changes with its mask, and classes that
are numbered anew since are found by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.class_maps import palette_png
from pipeline.data.masks import IGNORED
from pipeline.data.preparation.corrections import ReadLabel
from pipeline.errors import SourceError
from pipeline.files import read_bytes, read_json, value_digest, write_json, written_whole

FOLDER, CLASSES = "corrections", "classes.json"
DIGITS = 32  # of a digest
LABEL = re.compile(f"([0-9a-f]{{{DIGITS}}})/([0-9a-f]{{{DIGITS}}})[.]png")
Values = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class CorrectedMask:
    """A file of this folder, in the place of a MaskFile: read when it is used."""

    path: Path
    values: Values
    others: None = None

    @property
    def data(self) -> bytes:
        """Its bytes; raises SourceError where they are not those that its name says."""
        try:
            data = read_bytes(self.path)
        except OSError as error:
            raise SourceError(f"{self.path}: can't be read ({error.strerror or error})") from None
        if _digest(data) != self.path.stem:
            raise SourceError(f"{self.path}: changed since selftrain answers wrote it; do it again")
        return data


def mask_reader(classes: Sequence[str], folder: Path) -> ReadLabel:
    """What reads a label of corrections.csv in `folder` as a CorrectedMask of these classes."""

    @cache
    def values(names: str) -> Values:
        return _values(folder / FOLDER / names / CLASSES, names, classes)

    def read(label: str) -> CorrectedMask:
        match = LABEL.fullmatch(label)
        if match is None:
            raise ValueError(
                f"label {label!r}: no mask that selftrain answers wrote; an empty label is for an "
                "image of none of the classes"
            )
        return CorrectedMask(folder / FOLDER / label, values(match[1]))

    return read


def write_mask(mask: NDArray[np.uint8], classes: Sequence[str], folder: Path) -> str:
    """Write a mask (H, W) for corrections.csv in `folder`; its label there."""
    names = value_digest(list(classes))[:DIGITS]
    data = palette_png(mask, 256 if (mask == IGNORED).any() else len(classes))
    label = f"{names}/{_digest(data)}.png"
    if not (folder / FOLDER / names / CLASSES).exists():
        write_json(folder / FOLDER / names / CLASSES, list(classes))
    if not (folder / FOLDER / label).exists():
        with written_whole(folder / FOLDER / label) as partial:
            partial.write_bytes(data)
    return label


def _values(path: Path, digest: str, classes: Sequence[str]) -> Values:
    """Pairs of a number in the masks and that of the class now; one that is gone has none."""
    try:
        names = read_json(path)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: can't be read ({error})") from None
    if not isinstance(names, list) or value_digest(names)[:DIGITS] != digest:
        raise SourceError(f"{path}: changed since selftrain answers wrote it; do it again")
    numbers = {name: number for number, name in enumerate(classes)}
    found = [
        (place, numbers[name]) for place, name in enumerate(map(str, names)) if name in numbers
    ]
    return (*found, (IGNORED, IGNORED))


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:DIGITS]
