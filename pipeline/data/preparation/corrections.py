"""What a person said of single images: their answer, or that they show none of the classes.

Corrections come after the split: an image that a person labelled is a training image beyond the
label budget, never one to choose or test by, since nobody picked it at random.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.data.images import StoredImage
from pipeline.data.preparation.assign import Side
from pipeline.data.preparation.duplicates import Ints
from pipeline.data.preparation.records import BATCH, Records, rows_of
from pipeline.data.preparation.slices import Slices
from pipeline.data.preparation.targets import Encoded, Targets
from pipeline.data.sources.rows import in_words
from pipeline.errors import SourceError
from pipeline.files import csv_value, read_text

if TYPE_CHECKING:
    from pipeline.params import DataParams

HEADER = ["id", "label"]
NONE_OF_THEM = -1
NONE_CHOICE = "Not any of these"  # what a labelling tool shows for it
IDS_SHOWN = 3
MOST_CORRECTIONS = 24 << 20  # bytes of the file: read it takes 40 times as much
MOST_CLASSES_SHOWN, FEW_CLASSES = 12, 6
CORRECTABLE = (Side.LABELED, Side.UNLABELED, Side.VALIDATION)
ReadLabel = Callable[[str], Any]
"""from the label of a line to an answer that Targets.encode takes; ValueError says what is wrong"""


@dataclass(frozen=True)
class Corrected:
    """What the corrections changed: the records' labels and sides, and how many images.

    labels: the answers that a person gave, as the shards hold them, by row; labeled: how many;
    excluded: none of the classes; unused: corrections of images that are no training or validation
    images (test images, copies of these, unusable ones).
    """

    records: Records
    sides: Ints
    labels: dict[int, Any]
    labeled: int
    excluded: int
    unused: int


def class_reader(classes: Sequence[str], folder: Path = Path()) -> ReadLabel:
    """What reads the name of a class as its number; folder: holds the corrections, not needed."""
    numbers = {name: number for number, name in enumerate(classes)}

    def read(label: str) -> int:
        if label not in numbers:
            raise ValueError(
                f"label {label!r}: no class; there are {_shown(classes)}, and an empty label for "
                "none"
            )
        return numbers[label]

    return read


def read_corrections(path: Path, read_label: ReadLabel) -> dict[str, Any]:
    """The answer by image id, NONE_OF_THEM where the label is empty.

    `path`: CSV with the header id,label. Of two lines with one id the later counts, so that lines
    can be appended. Raises SourceError with the line that makes no sense.
    """
    corrections: dict[str, Any] = {}
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
                try:
                    corrections[row[0]] = read_label(row[1]) if row[1] else NONE_OF_THEM
                except ValueError as error:
                    raise SourceError(f"{where}: {error}") from None
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; set data.corrections: null without it") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path}: not a CSV file in UTF-8 ({error})") from None
    return corrections


def task_corrections(path: Path, task: Targets, classes: Sequence[str]) -> dict[str, Any]:
    """`read_corrections` with the labels of a task."""
    return read_corrections(path, task.correction_reader(classes, path.parent))


def apply_corrections(
    records: Records,
    sides: Ints,
    corrections: Mapping[str, Any],
    slices: Slices,
    task: Targets,
    data: DataParams,
    num_classes: int,
) -> Corrected:
    """Give the corrected images of the training side and of validation their answers.

    sides: (N,) as assign_sides gave them. An unlabelled image that gets an answer becomes a
    labelled one, one that is none of the classes goes out. Raises SourceError for an id that no
    image has, and for answers that can't be used.
    """
    rows = rows_of(records, corrections)
    if unknown := sorted(corrections.keys() - rows.keys() - {name for name, _ in records.bad}):
        more = f" (and {len(unknown) - IDS_SHOWN} more)" if len(unknown) > IDS_SHOWN else ""
        shown = ", ".join(map(repr, unknown[:IDS_SHOWN]))
        raise SourceError(f"data.corrections: no image of the source has the id {shown}{more}")
    names, sides, excluded = dict[int, str](), sides.copy(), 0
    for name, row in rows.items():
        if sides[row] not in CORRECTABLE:
            continue
        if corrections[name] == NONE_OF_THEM:
            sides[row] = Side.EXCLUDED
            excluded += 1
        else:
            names[row] = name
            if sides[row] == Side.UNLABELED:
                sides[row] = Side.LABELED
    unused = len(corrections) - len(names) - excluded
    answers = {row: corrections[name] for row, name in names.items()}
    encoded, bad = dict[int, Encoded](), list[tuple[str, str]]()
    for row, answer in _encoded(answers, slices, task, data, num_classes):
        if isinstance(answer, str):
            bad.append((names[row], answer))
        else:
            encoded[row] = answer
    if bad:
        raise SourceError(
            f"data.corrections: {len(bad)} of {len(answers)} answers can't be used: "
            f"{in_words(bad)}; give them again, or take their lines out"
        )
    labels = {row: answer.value for row, answer in encoded.items()}
    corrected = _labeled(records, encoded, task.image_classes)
    return Corrected(corrected, sides, labels, len(labels), excluded, unused)


def _encoded(
    answers: Mapping[int, Any], slices: Slices, task: Targets, data: DataParams, num_classes: int
) -> Iterator[tuple[int, Encoded | str]]:
    """Each row with its answer in the square of its image, or what is wrong with it."""
    rows, nothing = list(answers), np.empty((0, 0, 0), np.uint8)
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        widths, heights = (slices.values(np.array(some), name) for name in ("width", "height"))
        images = [
            StoredImage(b"", nothing, False, widths[row], heights[row], "", 0) for row in some
        ]
        labels = [answers[row] for row in some]
        yield from zip(some, task.encode(labels, images, data, num_classes), strict=True)


def _labeled(records: Records, answers: Mapping[int, Encoded], image_classes: bool) -> Records:
    """The records with some other answers, by row."""
    if not answers:
        return records
    rows, strata, keys = list(answers), records.strata.copy(), records.keys.copy()
    keys[rows] = [answer.key for answer in answers.values()]
    strata[rows] = [answer.classes[0] if image_classes else 0 for answer in answers.values()]
    given = pa.array([answer.classes for answer in answers.values()], records.classes.type)
    places = np.arange(len(keys))
    places[rows] = len(keys) + np.arange(len(rows))
    classes = pa.concat_arrays([records.classes, given]).take(pa.array(places))
    return replace(records, strata=strata, keys=keys, classes=classes)


def _shown(classes: Sequence[str]) -> str:
    few = len(classes) <= MOST_CLASSES_SHOWN
    return ", ".join(classes if few else classes[:FEW_CLASSES]) + ("" if few else ", …")
