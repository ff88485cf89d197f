"""The report in short: a table for the terminal, and Markdown for the lineage's run in MLflow."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.errors import counted, visible
from pipeline.evaluate.result import Evaluation
from pipeline.report.data import GenerationResult, ReportData
from pipeline.report.decisions import decisions
from pipeline.report.svg import printable
from pipeline.report.words import (
    ABSENT,
    answer,
    change,
    issues_sentence,
    percent,
    span,
    validation_note,
)

NOTE_COLUMNS = {
    "score": "test {}",
    "interval": "interval",
    "validation": "validation",
    "ece": "ECE",
    "pseudo_labels": "pseudo-labels",
    "change": "vs. teacher",
}
TABLE_COLUMNS = {
    "score": "test",
    "interval": "interval",
    "centre": "one view",
    "ece": "ECE",
    "validation": "val",
    "pseudo_labels": "pseudo-labels",
}
SPECIAL = re.compile(r"[&<>|\\`*_\[\]#]")


@dataclass(frozen=True)
class ModelRow:
    """The figures of a model as they are shown, a dash for each that there is not."""

    name: str
    score: str
    interval: str
    centre: str = ABSENT
    nll: str = ABSENT
    ece: str = ABSENT
    top5: str = ABSENT
    validation: str = ABSENT
    pseudo_labels: str = ABSENT
    change: str = ABSENT
    champion: bool = False


def model_rows(data: ReportData) -> list[ModelRow]:
    """A row for each generation, the ensemble, each control and the baseline."""
    rows = [
        _row(f"generation {part.generation}", part.test, part, data.champion)
        for part in data.generations
    ]
    if data.ensemble is not None:
        rows.append(_row("ensemble", data.ensemble))
    for control in data.controls:
        name = f"labels alone, {counted(control.steps, 'step')}"
        rows.append(_row(name, control.result.test, control.result, data.champion))
    baseline = data.baseline
    if baseline is not None and baseline.accuracy is not None:
        rows.append(ModelRow(baseline.name, percent(baseline.accuracy), span(baseline)))
    return rows


def _row(
    name: str, test: Evaluation, part: GenerationResult | None = None, champion: str = ""
) -> ModelRow:
    row = ModelRow(
        name,
        percent(test.score),
        span(test),
        nll=f"{test.nll:.3f}",
        ece=percent(test.ece),
        top5=percent(test.top5),
    )
    if part is None:
        return row
    audit, taught = part.pseudo_labels, ABSENT
    if audit is not None:
        known = audit.pseudo_label_accuracy is not None
        right = f", {percent(audit.pseudo_label_accuracy)} right" if known else ""
        taught = f"{percent(audit.coverage, 0)} kept{right}"
    return replace(
        row,
        centre=percent(part.centre.score),
        validation=percent(part.validation.score if part.validation else None),
        pseudo_labels=taught,
        change=change(part.against_teacher) if part.against_teacher else ABSENT,
        champion=part.generation == champion,
    )


def render_table(data: ReportData, *, width: int = 100, color: bool = False) -> str:
    """Verdict, a row for each model, and what the table leaves out, as text for the terminal."""
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
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("model")  # a long name takes two lines, so that no figure is cut
    columns = dict(TABLE_COLUMNS)
    if data.views == "centre":
        del columns["centre"]  # all of them are
    for column in columns.values():
        table.add_column(column, justify="right", no_wrap=True)
    for row in model_rows(data):
        cells = [getattr(row, name) for name in columns]
        cells[1] = cells[1].removesuffix(" %")
        table.add_row(f"{row.name} *" if row.champion else row.name, *cells)
    console.print(Text(f"{printable(data.dataset, 60)}: {verdict.short}", style="bold"))
    console.print(table)
    for part in data.generations:
        if (test := part.against_teacher) is not None:
            against = f"generation {part.generation} against its teacher"
            console.print(f"{against}: {change(test)}: {test.verdict}")
    findings = [f"guard: {finding}" for finding in data.findings]
    advice = [f"next: {advice}" for advice in decisions(data)]
    for text in (
        *advice,
        *findings,
        *verdict.sentences,
        validation_note(data),
        issues_sentence(data),
    ):
        if text:
            console.print(visible(text))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def render_note(data: ReportData) -> str:
    """Verdict, the images, a row for each model, and the sentences behind it, as Markdown."""
    verdict = answer(data)
    words = {"labeled": "labelled", "unlabeled": "unlabelled"}
    images = ", ".join(
        f"{data.counts[part]:,} {words.get(part, part)}"
        for part in ("labeled", "unlabeled", "validation", "test")
        if part in data.counts
    )
    columns = [words.format(data.task.score_words) for words in NOTE_COLUMNS.values()]
    rows = [["", *columns], ["---"] * (len(NOTE_COLUMNS) + 1)]
    for row in model_rows(data):
        name = f"**{row.name}** (champion)" if row.champion else escaped(row.name)
        rows.append([name, *(getattr(row, column) for column in NOTE_COLUMNS)])
    advice = [f"Next: {advice}" for advice in decisions(data)]
    sentences = (*advice, *verdict.sentences, *data.findings, validation_note(data))
    lines = [
        f"## {escaped(data.dataset)}: {verdict.short}",
        "",
        f"{images} images of {len(data.classes)} classes.",
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        *(f"- {escaped(text)}" for text in sentences),
        "",
    ]
    return "\n".join(lines)


def headline(data: ReportData) -> dict[str, float]:
    """The figures by which one lineage is compared with another, scores in [0, 1]."""
    score = f"test/{data.task.score}"
    figures = {
        score: data.champion_result.test.score,
        f"{score}/generation_0": data.generations[0].test.score,
    }
    if data.ensemble is not None:
        figures[f"{score}/ensemble"] = data.ensemble.score
    for control in data.controls:
        figures[f"{score}/control_{control.name}"] = control.result.test.score
    return figures


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: what has a meaning there as a character reference."""
    return SPECIAL.sub(lambda match: f"&#{ord(match[0])};", printable(text, 10_000))
