"""Classify any number of image files into one table, a batch in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.sources.rows import Row, in_batches
from pipeline.evaluate.classifier import Answers, Classifier, classify_encoded
from pipeline.evaluate.recipe import BATCH_BYTES, BATCH_SIZE
from pipeline.files import csv_rows, written_whole
from pipeline.progress import progress

NAMED = 3


class Images(Protocol):
    """What is classified: a number of rows, read one after the other."""

    def __len__(self) -> int: ...

    def rows(self) -> Iterator[Row]:
        """Every image."""


@dataclass
class Summary:
    """How many images were classified, and of the others how many and the first few: (id, why)."""

    classified: int = 0
    bad: int = 0
    first_bad: list[tuple[str, str]] = field(default_factory=list)

    def add(self, ids: Sequence[str], problems: Sequence[str | None]) -> None:
        """Take in one batch."""
        bad = [(name, why) for name, why in zip(ids, problems, strict=True) if why is not None]
        self.classified += len(ids) - len(bad)
        self.bad += len(bad)
        self.first_bad = (self.first_bad + bad)[:NAMED]


def predict_files(
    classifier: Classifier,
    images: Images,
    out: Path,
    *,
    batch_size: int = BATCH_SIZE,
    threads: int = 1,
) -> Summary:
    """Write one row an image to `out`, a .parquet or .csv file, whole or not at all.

    Columns: id, label, confidence, `probability_<class>` for each class, error: why an image could
    not be classified; then the others are null. Probabilities are in [0, 1], float32. At most
    `batch_size` images are in memory at once, of BATCH_BYTES together, but for the last.
    """
    classes, summary = classifier.spec.classes, Summary()
    with (
        written_whole(out) as partial,
        _writer(out.suffix, partial, classes) as write,
        progress("predict", len(images)) as advance,
    ):
        for batch in row_batches(images.rows(), batch_size):
            answers = classify_rows(classifier, batch, threads=threads)
            ids = [row.id for row in batch]
            write(answers_table(ids, answers, classes))
            summary.add(ids, answers.problems)
            advance(len(batch))
            del batch  # before the next is read
    return summary


def row_batches(rows: Iterable[Row], batch_size: int = BATCH_SIZE) -> Iterator[list[Row]]:
    """The rows by batches, bounded by number and bytes."""
    return in_batches(rows, batch_size, BATCH_BYTES, lambda row: len(row.image))


def answers_table(ids: Sequence[str], answers: Answers, classes: Sequence[str]) -> Any:
    """The rows of some images as a `pyarrow.Table`."""
    table = answers.probabilities
    bad = np.array([problem is not None for problem in answers.problems], bool)
    best = np.where(bad[:, None], 0, table).argmax(1)
    labels = np.array(classes, object)[best]
    columns = {
        "id": pa.array(ids, pa.string()),
        "label": pa.array(labels, pa.string(), mask=bad),
        "confidence": pa.array(table[np.arange(len(table)), best], pa.float32(), mask=bad),
    }
    for place, name in enumerate(classes):
        columns[f"probability_{name}"] = pa.array(table[:, place], pa.float32(), mask=bad)
    return pa.table(columns | {"error": pa.array(answers.problems, pa.string())})


def classify_rows(classifier: Classifier, batch: Sequence[Row], *, threads: int = 1) -> Answers:
    """The answers to a batch, those that came with a problem among them, which are not decoded."""
    places = [place for place, row in enumerate(batch) if row.problem is None]
    usable = classify_encoded(classifier, [batch[place].image for place in places], threads=threads)
    problems = [row.problem for row in batch]
    for place, problem in zip(places, usable.problems, strict=True):
        problems[place] = problem
    probabilities = np.full((len(batch), usable.probabilities.shape[1]), np.nan, np.float32)
    probabilities[places] = usable.probabilities
    return Answers(probabilities, problems)


Write = Callable[[Any], None]


@contextmanager
def _writer(ending: str, path: Path, classes: Sequence[str]) -> Iterator[Write]:
    """What appends a table to the file."""
    empty = answers_table([], Answers(np.empty((0, len(classes)), np.float32), []), classes)
    if ending == ".parquet":
        with pq.ParquetWriter(path, empty.schema) as file:
            yield file.write_table
        return
    with path.open("w", encoding="utf-8", newline="") as text:
        csv_rows(text, [empty.schema.names])

        def write(table: Any) -> None:
            csv_rows(text, zip(*map(_texts, table.columns), strict=True))

        yield write


def _texts(column: Any) -> list[str | None]:
    """CSV's form of a column: a probability has six decimals."""
    return [f"{v:.6f}" if isinstance(v, float) else v for v in column.to_pylist()]
