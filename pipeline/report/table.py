"""The report in short, for the terminal."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.evaluate.result import Evaluation
from pipeline.report.data import GenerationResult, ReportData
from pipeline.report.svg import printable
from pipeline.report.words import ABSENT, answer, change, issues_sentence, percent, validation_note

COLUMNS = ("model", "test", "interval", "one view", "ECE", "val", "pseudo-labels")


def render_table(data: ReportData, *, width: int = 100, color: bool = False) -> str:
    """Verdict, a row for each generation, and what the table leaves out, as text."""
    verdict = answer(data)
    file = io.StringIO()
    console = Console(
        file=file,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    console.print(Text(f"{printable(data.dataset, 60)}: {verdict.short}", style="bold"))
    console.print(_table(data))
    for part in data.generations:
        if part.against_teacher is not None:
            console.print(
                f"generation {part.generation} against its teacher: "
                f"{change(part.against_teacher)}: {part.against_teacher.verdict}"
            )
    for finding in data.findings:
        console.print(f"guard: {finding}")
    for sentence in (*verdict.sentences, validation_note(data), issues_sentence(data)):
        if sentence:
            console.print(sentence)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _table(data: ReportData) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(COLUMNS):
        # A long name takes two lines, so that no figure is cut.
        table.add_column(column, justify="right" if number else "left", no_wrap=bool(number))
    for part in data.generations:
        mark = " *" if part.generation == data.champion else ""
        table.add_row(f"generation {part.generation}{mark}", *_cells(part.test), *_more(part))
    if data.ensemble is not None:
        table.add_row("ensemble", *_cells(data.ensemble), ABSENT, percent(data.ensemble.ece))
    for control in data.controls:
        name = f"labels alone, {control.steps:,} steps"
        table.add_row(name, *_cells(control.result.test), *_more(control.result))
    baseline = data.baseline
    if baseline is not None and baseline.accuracy is not None:
        low, high = 100 * (baseline.low or 0), 100 * (baseline.high or 0)
        table.add_row(baseline.name, percent(baseline.accuracy), f"{low:.1f} to {high:.1f}")
    return table


def _cells(part: Evaluation) -> tuple[str, str]:
    return percent(part.accuracy), f"{100 * part.low:.1f} to {100 * part.high:.1f}"


def _more(part: GenerationResult) -> tuple[str, ...]:
    labels = part.pseudo_labels
    taught = ABSENT
    if labels is not None:
        right = f", {percent(labels.accuracy)} right" if labels.accuracy is not None else ""
        taught = f"{percent(labels.coverage, 0)} kept{right}"
    return (
        percent(part.centre.accuracy),
        percent(part.test.ece),
        percent(part.validation.accuracy if part.validation else None),
        taught,
    )
