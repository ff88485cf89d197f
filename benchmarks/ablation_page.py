"""What the ablation's runs come to: figures with intervals, and a sentence from each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.ablation_rows import FULL, ROWS, Row
from benchmarks.runs import half_interval

# By row and seed: accuracies of a run by figure.
Outcomes = Mapping[str, Mapping[int, Mapping[str, float]]]
Spread = dict[str, Any]
INTERVAL = 0.95


def summary(outcomes: Outcomes, rows: Sequence[Row] = ROWS) -> dict[str, Any]:
    """By row of `rows`: accuracy over its seeds, and its paired difference to the full form.

    Seeds that only one of the two has are left out of the difference.
    """
    result = {}
    for row in rows:
        runs = outcomes[run_of(row)]
        values = {seed: runs[seed][row.figure] for seed in sorted(runs)}
        full = outcomes[FULL.name]
        paired = [value - full[seed]["last"] for seed, value in values.items() if seed in full]
        result[row.name] = {
            "accuracy": spread(list(values.values())),
            "difference": None if row is FULL else spread(paired),
        }
    return result


def run_of(row: Row) -> str:
    """The row whose runs hold its figure."""
    return row.name if row.figure == "last" else FULL.name


def spread(values: Sequence[float]) -> Spread:
    """Mean and its interval by Student's t; no interval from one value."""
    half = half_interval(values, INTERVAL) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "half": half, "seeds": list(values)}


def page(result: Mapping[str, Any]) -> str:
    """docs/ablation.md: per data set a table and a sentence a row."""
    lines = [
        "# Which part helps",
        "",
        "Made by `make ablation`. Test accuracy in %, mean over seeds with its 95 % interval "
        "(Student's t); differences are to the full form, paired seed by seed. A part is said to "
        "help or to hurt only where the interval of the difference leaves out 0.",
        "",
        "| row | what differs |",
        "|---|---|",
        *(f"| {row.name} | {row.what} |" for row in ROWS),
    ]
    for name, part in result["data"].items():
        lines += ["", f"## {name}", "", part["protocol"], "", *_table(part["rows"]), ""]
        shown = [row for row in ROWS if row is not FULL and row.name in part["rows"]]
        lines += [f"- {sentence(row, part['rows'][row.name])}" for row in shown]
    return "\n".join(lines) + "\n"


def sentence(row: Row, figures: Mapping[str, Any]) -> str:
    """What a row says of its part: helps, hurts, or no difference beyond the interval."""
    difference = figures["difference"]
    shown = _points(difference)
    subject = f"{row.name[0].upper()}{row.name[1:]}: {shown}"
    if difference["half"] is None:
        return f"{subject}; one seed says nothing."
    low, high = (difference["mean"] + sign * difference["half"] for sign in (-1, 1))
    if low <= 0 <= high:
        return f"{subject}: no difference beyond the interval."
    helps = (low > 0) == row.adds
    return f"{subject}: {row.part} {_verb('help' if helps else 'hurt', row.part)}."


def _verb(verb: str, subject: str) -> str:
    return verb if subject.endswith("labels") else f"{verb}s"


def _table(rows: Mapping[str, Any]) -> list[str]:
    lines = ["| row | test accuracy | difference to full | seeds |", "|---|---|---|---|"]
    for name in (row.name for row in ROWS if row.name in rows):  # kept as JSON, by name
        figures = rows[name]
        accuracy, difference = figures["accuracy"], figures["difference"]
        shown = "" if difference is None else _points(difference)
        lines.append(f"| {name} | {_percent(accuracy)} | {shown} | {len(accuracy['seeds'])} |")
    return lines


def _percent(values: Spread) -> str:
    half = "" if values["half"] is None else f" ± {100 * values['half']:.2f}"
    return f"{100 * values['mean']:.2f}{half}"


def _points(values: Spread) -> str:
    half = "" if values["half"] is None else f" ± {100 * values['half']:.2f}"
    return f"{100 * values['mean']:+.2f}{half} points".replace("-", "−")
