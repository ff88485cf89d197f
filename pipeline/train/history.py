"""What a training run logged, read back and written as curves."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import TrainingError
from pipeline.files import csv_rows, read_bytes, read_text, write_text

Log = Callable[[int, dict[str, float]], None]
LOSSES = ("loss", "loss_labeled", "loss_pseudo", "learning_rate")
LOSS_FILE, VALIDATION_FILE = "loss.csv", "validation.csv"


@dataclass(frozen=True)
class Point:
    """The values logged after `step` steps."""

    step: int
    values: dict[str, float]


def read_history(path: Path) -> list[Point]:
    """The points in a file of JSON lines, by step; of a step trained twice, the last.

    A run that was killed leaves a torn last line, which does not count. Raises TrainingError for
    what is no regular file.
    """
    points: dict[tuple[int, tuple[str, ...]], Point] = {}
    try:
        lines = read_bytes(path).splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TrainingError(f"{path}: can't be read ({error.strerror}); remove it") from None
    for line in lines:
        try:
            point = Point(**json.loads(line))
            points[int(point.step), tuple(sorted(point.values))] = point
        except (ValueError, TypeError, OverflowError, RecursionError):
            continue
    return sorted(points.values(), key=lambda point: int(point.step))


def drop_torn_line(path: Path) -> None:
    """Cut the torn last line that a killed run has left, so that nothing is appended to it."""
    if path.exists():
        whole, newline, _ = path.read_bytes().rpartition(b"\n")
        path.write_bytes(whole + newline)


@contextmanager
def history_log(path: Path, rank: int = 0) -> Iterator[Log]:
    """A log that appends lines of JSON to `path`; of other ranks than 0 one that drops all."""
    if rank:
        yield lambda step, values: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", buffering=1) as file:

        def log(step: int, values: dict[str, float]) -> None:
            file.write(json.dumps({"step": step, "values": values}) + "\n")

        yield log


def write_curves(folder: Path, history: Sequence[Point], score: str) -> None:
    """Write losses and validations by step to `folder` as CSV; no rates, which never repeat.

    score: the task's, which validations are of.
    """
    write_text(folder / LOSS_FILE, _table(history, LOSSES))
    write_text(folder / VALIDATION_FILE, _table(history, (f"val/{score}",)))


def read_curve(path: Path) -> dict[str, list[float]]:
    """The columns of a curve by name."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    columns: dict[str, list[float]] = {name: [] for name in reader.fieldnames or []}
    for row in reader:
        for name, value in row.items():
            columns[name].append(float(value))
    return columns


def _table(history: Sequence[Point], names: Sequence[str]) -> str:
    text = io.StringIO()
    points = [point for point in history if names[0] in point.values]
    rows = [[point.step, *(point.values[name] for name in names)] for point in points]
    csv_rows(text, [["step", *names], *rows])
    return text.getvalue()
