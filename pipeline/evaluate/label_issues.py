"""Labelled images that the models contradict: a list for a person to look at, nothing more.

The models were trained on these very labels, so they contradict few of them: what they could
learn by heart in spite of what the others look like stays hidden. No label is ever changed.
Nobody looks at more than MOST_ISSUES, so that only the worst of more are listed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.predictions import read_predictions
from pipeline.data.shards import shown_shards
from pipeline.errors import DataError
from pipeline.files import csv_rows, csv_value, read_text, write_text
from pipeline.tasks.averages import weighted_log_probs
from pipeline.tasks.classification import TASK

MOST_ISSUES = 100_000
COLUMNS = ("id", "label", "ensemble", "label_probability", "ensemble_probability", "margin")


@dataclass(frozen=True)
class LabelIssue:
    """An image, its label, the class that the ensemble sees, and how probable each is to it.

    margin: how much more probable its class is than the label.
    """

    id: str
    label: str
    ensemble: str
    label_probability: float
    ensemble_probability: float
    margin: float


def find_label_issues(
    labeled: Path,
    predictions: Mapping[str, Path],
    weights: Mapping[str, float],
    classes: Sequence[str],
    *,
    least_margin: float,
) -> list[LabelIssue]:
    """The images of `labeled` that the weighted models contradict by `least_margin`, worst first,
    MOST_ISSUES at most.

    predictions: folders of each model's predictions of these images, by generation. Reads a shard
    of each at a time. Raises DataError where they are not of the same images.
    """
    selected: list[LabelIssue] = []
    shards = zip(*(read_predictions(predictions[key], TASK) for key in weights), strict=True)
    tables = shown_shards(labeled, ["id", "label"], "ensemble: labels looked at")
    for table, members in zip(tables, shards, strict=True):
        ids = table.column("id").to_pylist()
        labels = table.column("label").to_numpy().astype(np.int64)
        if any(member.ids != ids for member in members):
            raise DataError(f"{labeled}: not the images that were predicted; evaluate again")
        log_probs = {key: part.values for key, part in zip(weights, members, strict=True)}
        probabilities = np.exp(weighted_log_probs(log_probs, weights).astype(np.float64))
        guesses = probabilities.argmax(axis=1)
        for row in np.flatnonzero(guesses != labels).tolist():
            label, guess = labels[row], guesses[row]
            own, other = float(probabilities[row, label]), float(probabilities[row, guess])
            if other - own >= least_margin:
                names = ids[row], classes[label], classes[guess]
                selected.append(LabelIssue(*names, own, other, margin=other - own))
        if len(selected) >= 2 * MOST_ISSUES:
            selected = _worst(selected)
    return _worst(selected)


def _worst(issues: list[LabelIssue]) -> list[LabelIssue]:
    return sorted(issues, key=lambda issue: (-issue.margin, issue.id))[:MOST_ISSUES]


def write_label_issues(path: Path, issues: Sequence[LabelIssue]) -> None:
    """Write the issues as CSV, probabilities with six digits; no name can be a formula."""
    text = io.StringIO()
    rows = [[getattr(issue, name) for name in COLUMNS] for issue in issues]
    shown = [[f"{v:.6f}" if isinstance(v, float) else v for v in row] for row in rows]
    csv_rows(text, [COLUMNS, *shown])
    write_text(path, text.getvalue())


def read_label_issues(path: Path) -> list[LabelIssue]:
    """What write_label_issues wrote; raises DataError for anything else."""
    try:
        header, *rows = csv.reader(io.StringIO(read_text(path), newline=""))
        if tuple(header) != COLUMNS:
            raise ValueError(f"the header must be {','.join(COLUMNS)}")
        return [
            LabelIssue(csv_value(name), csv_value(label), csv_value(ensemble), *map(float, rest))
            for name, label, ensemble, *rest in rows
        ]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{path}: not a list of label issues ({error})") from None
