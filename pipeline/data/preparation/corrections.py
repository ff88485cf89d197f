"""What a person said of single images: their class, or that they are none of the classes.

Corrections come after the split: an image that a person labelled is a training image beyond the
label budget, never one to choose or test by, since nobody picked it at random.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.data.preparation.assign import Side
from pipeline.data.preparation.duplicates import Ints
from pipeline.data.preparation.records import Records, rows_of
from pipeline.errors import SourceError
from pipeline.files import csv_value, read_text

HEADER = ["id", "label"]
NONE_OF_THEM = -1
NONE_CHOICE = "Not any of these"  # what a labelling tool shows for it
IDS_SHOWN = 3
MOST_CORRECTIONS = 24 << 20  # bytes of the file: read it takes 40 times as much
MOST_CLASSES_SHOWN, FEW_CLASSES = 12, 6
CORRECTABLE = (Side.LABELED, Side.UNLABELED, Side.VALIDATION)


@dataclass(frozen=True)
class Corrected:
    """What the corrections changed: the records' labels and sides, and how many images.

    labels: the class numbers that a person gave, by row; labeled: how many; excluded: none of the
    classes; unused: corrections of images that are no training or validation images (test images,
    copies of these, unusable ones).
    """

    records: Records
    sides: Ints
    labels: dict[int, int]
    labeled: int
    excluded: int
    unused: int


def read_corrections(path: Path, classes: Sequence[str]) -> dict[str, int]:
    """The class number by image id, NONE_OF_THEM where the label is empty.

    `path`: CSV with the header id,label. Of two lines with one id the later counts, so that lines
    can be appended. Raises SourceError with the line that makes no sense.
    """
    numbers = {name: number for number, name in enumerate(classes)} | {"": NONE_OF_THEM}
    corrections: dict[str, int] = {}
    try:
        text = read_text(path, "utf-8-sig", MOST_CORRECTIONS)
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        if next(reader, None) != HEADER:
            raise SourceError(f"{path}: line 1: must be id,label")
        for cells in reader:
            if cells and cells != HEADER:  # a file appended to another brings its header
                row = list(map(csv_value, cells))
                where = f"{path}: line {reader.line_num}"
                if len(row) != len(HEADER) or not row[0]:
                    line = ",".join(row)
                    raise SourceError(f"{where}: {line!r}: must be an image's id and its label")
                if row[1] not in numbers:
                    raise SourceError(
                        f"{where}: label {row[1]!r}: no class; there are {_shown(classes)}, "
                        "and an empty label for none"
                    )
                corrections[row[0]] = numbers[row[1]]
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; set data.corrections: null without it") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path}: not a CSV file in UTF-8 ({error})") from None
    return corrections


def apply_corrections(records: Records, sides: Ints, corrections: Mapping[str, int]) -> Corrected:
    """Give the corrected images of the training side and of validation their labels.

    sides: (N,) as assign_sides gave them. An unlabelled image that gets a label becomes a labelled
    one, one that is none of the classes goes out. Raises SourceError for an id that no image has.
    """
    rows = rows_of(records, corrections)
    if unknown := sorted(corrections.keys() - rows.keys() - {name for name, _ in records.bad}):
        more = f" (and {len(unknown) - IDS_SHOWN} more)" if len(unknown) > IDS_SHOWN else ""
        shown = ", ".join(map(repr, unknown[:IDS_SHOWN]))
        raise SourceError(f"data.corrections: no image of the source has the id {shown}{more}")
    labels, sides, excluded = dict[int, int](), sides.copy(), 0
    for name, row in rows.items():
        if sides[row] not in CORRECTABLE:
            continue
        if corrections[name] == NONE_OF_THEM:
            sides[row] = Side.EXCLUDED
            excluded += 1
        else:
            labels[row] = corrections[name]
            if sides[row] == Side.UNLABELED:
                sides[row] = Side.LABELED
    unused = len(corrections) - len(labels) - excluded
    return Corrected(_labeled(records, labels), sides, labels, len(labels), excluded, unused)


def _labeled(records: Records, labels: Mapping[int, int]) -> Records:
    """The records of images of one class each, some with another class number, by row."""
    if not labels:
        return records
    keys = records.keys.copy()
    keys[list(labels)] = list(labels.values())
    ends = np.concatenate([[0], np.cumsum(keys >= 0)])
    classes = pa.ListArray.from_arrays(
        pa.array(ends, pa.int32()), pa.array(keys[keys >= 0], pa.int32())
    )
    return replace(records, strata=keys.astype(np.int32), keys=keys, classes=classes)


def _shown(classes: Sequence[str]) -> str:
    few = len(classes) <= MOST_CLASSES_SHOWN
    return ", ".join(classes if few else classes[:FEW_CLASSES]) + ("" if few else ", …")
