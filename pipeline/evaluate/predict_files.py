"""Classify any number of image files into one table, a batch in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.sources.rows import Row, in_batches
from pipeline.evaluate.classifier import NOTHING, Answers, Classifier, classify_encoded
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

    Columns: id, those of Task.answer_columns, error: why an image could not be read; then the
    others are null. Probabilities are in [0, 1], float32. At most `batch_size` images are in memory
    at once, of BATCH_BYTES together, but for the last.
    """
    summary = Summary()
    with (
        written_whole(out) as partial,
        table_writer(partial, classifier, parquet=out.suffix == ".parquet") as write,
        progress("predict", len(images)) as advance,
    ):
        for batch in row_batches(images.rows(), batch_size):
            answers = classify_rows(classifier, batch, threads=threads)
            ids = [row.id for row in batch]
            write(answers_table(classifier, ids, answers))
            summary.add(ids, answers.problems)
            advance(len(batch))
            del batch  # before the next is read
    return summary


def row_batches(rows: Iterable[Row], batch_size: int = BATCH_SIZE) -> Iterator[list[Row]]:
    """The rows by batches, bounded by number and bytes."""
    return in_batches(rows, batch_size, BATCH_BYTES, lambda row: len(row.image))


def answers_table(
    classifier: Classifier,
    ids: Sequence[str],
    answers: Answers,
    more: Mapping[str, Any] | None = None,
) -> Any:
    """The rows of some images as a `pyarrow.Table`; more: columns after their ids."""
    rows = pa.array(answers.rows, pa.int64())
    columns = classifier.task.answer_columns(answers.predictions, classifier.spec.classes)
    return pa.table(
        {"id": pa.array(ids, pa.string()), **(more or {})}
        | {name: values.take(rows) for name, values in columns.items()}
        | {"error": pa.array(answers.problems, pa.string())}
    )


def classify_rows(classifier: Classifier, batch: Sequence[Row], *, threads: int = 1) -> Answers:
    """The answers to a batch, those that came with a problem among them, which are not decoded."""
    places = [place for place, row in enumerate(batch) if row.problem is None]
    usable = classify_encoded(classifier, [batch[place].image for place in places], threads=threads)
    problems = [row.problem for row in batch]
    for place, problem in zip(places, usable.problems, strict=True):
        problems[place] = problem
    return replace(usable, problems=problems)


Write = Callable[[Any], None]


@contextmanager
def table_writer(
    path: Path, classifier: Classifier, more: Sequence[str] = (), *, parquet: bool = False
) -> Iterator[Write]:
    """What appends a table to a file, Parquet or CSV; more: names of columns of text after ids."""
    texts = {name: pa.array([], pa.string()) for name in more}
    empty = answers_table(classifier, [], NOTHING, texts)
    if parquet:
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
