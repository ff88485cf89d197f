"""What a person said of single images: their class, or that they are none of the classes.

Corrections come after the split: an image that a person labelled is a training image beyond the
label budget, never one to choose or test by, since nobody picked it at random.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data.preparation.assign import Side
from pipeline.data.preparation.duplicates import Ints
from pipeline.data.preparation.records import ROWS_PER_GROUP, Records
from pipeline.errors import SourceError

HEADER = ["id", "label"]
NONE_OF_THEM = -1
NONE_CHOICE = "Not any of these"  # what a labelling tool shows for it
IDS_NAMED = 3
MOST_CLASSES_NAMED, FEW_CLASSES = 12, 6
IN_REACH = (Side.LABELED, Side.UNLABELED, Side.VALIDATION)


@dataclass(frozen=True)
class Corrected:
    """What the corrections changed: the records' labels and sides, and how many images.

    labeled: images with the label that a person gave; excluded: none of the classes; unused:
    corrections of images that are no training or validation images (test images, copies of
    these, unusable ones).
    """

    records: Records
    sides: Ints
    labeled: int
    excluded: int
    unused: int


def read_corrections(path: Path, classes: Sequence[str]) -> dict[str, int]:
    """The class number by image id, NONE_OF_THEM where the label is empty.

    `path`: CSV with the header id,label. Of two lines with one id the later counts, so that lines
    can be appended. Raises SourceError with the line that makes no sense.
    """
    numbers = {name: number for number, name in enumerate(classes)} | {"": NONE_OF_THEM}
    found: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            if next(reader, None) != HEADER:
                raise SourceError(f"{path}: line 1: must be id,label")
            for row in reader:
                if row and row != HEADER:  # a file appended to another brings its header
                    name, label = _checked(row, numbers, f"{path}: line {reader.line_num}")
                    found[name] = label
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; set data.corrections: null without it") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path}: not a CSV file in UTF-8 ({error})") from None
    return found


def apply_corrections(records: Records, sides: Ints, corrections: Mapping[str, int]) -> Corrected:
    """Give the corrected images of the training side and of validation their labels.

    sides: (N,) as assign_sides gave them. An unlabelled image that gets a label becomes a labelled
    one, one that is none of the classes goes out. Raises SourceError for an id that no image has.
    """
    rows = _rows_of(records, corrections)
    _check_known(corrections.keys() - rows.keys() - {name for name, _ in records.bad})
    labels, sides = records.labels.copy(), sides.copy()
    labeled = excluded = 0
    for name, row in rows.items():
        label = corrections[name]
        if sides[row] not in IN_REACH:
            continue
        if label == NONE_OF_THEM:
            sides[row] = Side.EXCLUDED
            excluded += 1
            continue
        labels[row] = label
        labeled += 1
        if sides[row] == Side.UNLABELED:
            sides[row] = Side.LABELED
    unused = len(corrections) - labeled - excluded
    return Corrected(replace(records, labels=labels), sides, labeled, excluded, unused)


def _checked(row: Sequence[str], numbers: Mapping[str, int], where: str) -> tuple[str, int]:
    if len(row) != len(HEADER) or not row[0]:
        raise SourceError(f"{where}: {','.join(row)!r}: must be an image's id and its label")
    name, label = row
    if label not in numbers:
        names = [*numbers][:-1]
        cut = len(names) > MOST_CLASSES_NAMED
        some = ", ".join(names[:FEW_CLASSES] if cut else names) + (", …" if cut else "")
        raise SourceError(
            f"{where}: label {label!r}: no class; there are {some}, and an empty label for none"
        )
    return name, numbers[label]


def _rows_of(records: Records, ids: Iterable[str]) -> dict[str, int]:
    """The row of each of `ids` among the records, in their order; unknown ones are left out."""
    wanted, first = pa.array(list(ids), pa.string()), 0
    rows: dict[str, int] = {}
    with pq.ParquetFile(records.spill) as file:
        for batch in file.iter_batches(ROWS_PER_GROUP, columns=["id"]):
            places = np.flatnonzero(
                pc.is_in(batch.column(0), wanted).to_numpy(zero_copy_only=False)
            )
            rows |= {batch.column(0)[place].as_py(): first + place for place in places.tolist()}
            first += batch.num_rows
    return rows


def _check_known(unknown: Iterable[str]) -> None:
    names = sorted(unknown)
    if names:
        more = f" (and {len(names) - IDS_NAMED} more)" if len(names) > IDS_NAMED else ""
        shown = ", ".join(map(repr, names[:IDS_NAMED]))
        raise SourceError(f"data.corrections: no image of the source has the id {shown}{more}")
