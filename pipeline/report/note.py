"""The report in short as Markdown: the description of a lineage's run in MLflow."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.report.data import GenerationResult, ReportData
from pipeline.report.svg import printable
from pipeline.report.words import ABSENT, answer, change, percent, span, validation_note

COLUMNS = ("", "test accuracy", "interval", "validation", "ECE", "pseudo-labels", "vs. teacher")
SPECIAL = re.compile(r"[&<>|\\`*_\[\]#]")


def render_note(data: ReportData) -> str:
    """Verdict, the images, a row for each generation, and the sentences behind the verdict."""
    verdict, counts = answer(data), data.counts
    images = ", ".join(
        f"{counts[part]:,} {word}"
        for part, word in (
            ("labeled", "labelled"),
            ("unlabeled", "unlabelled"),
            ("validation", "validation"),
            ("test", "test"),
        )
        if part in counts
    )
    lines = [
        f"## {escaped(data.dataset)}: {verdict.short}",
        "",
        f"{images} images of {len(data.classes)} classes.",
        "",
        _row(COLUMNS),
        _row(["---"] * len(COLUMNS)),
        *(_row(_generation(part, data.champion)) for part in data.generations),
    ]
    if data.ensemble is not None:
        whole = data.ensemble
        lines.append(
            _row(["ensemble", percent(whole.accuracy), span(whole), ABSENT, percent(whole.ece)])
        )
    for control in data.controls:
        name = f"labels alone, {control.steps:,} steps"
        lines.append(_row([name, *_generation(control.result, "")[1:]]))
    peer = data.baseline
    if peer is not None and peer.accuracy is not None:
        lines.append(_row([escaped(peer.name), percent(peer.accuracy)]))
    sentences = [*verdict.sentences, *data.findings, validation_note(data)]
    return "\n".join([*lines, "", *(f"- {escaped(text)}" for text in sentences if text), ""])


def headline(data: ReportData) -> dict[str, float]:
    """The figures by which one lineage is compared with another, accuracies in [0, 1]."""
    champion = next(part for part in data.generations if part.generation == data.champion)
    found = {
        "test/accuracy": champion.test.accuracy,
        "test/accuracy/generation_0": data.generations[0].test.accuracy,
    }
    if data.ensemble is not None:
        found["test/accuracy/ensemble"] = data.ensemble.accuracy
    for control in data.controls:
        found[f"test/accuracy/control_{control.name}"] = control.result.test.accuracy
    return found


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: what has a meaning there as a character reference."""
    return SPECIAL.sub(lambda found: f"&#{ord(found[0])};", printable(text, 10_000))


def _generation(part: GenerationResult, champion: str) -> list[str]:
    labels, tested = part.pseudo_labels, part.against_teacher
    taught = ABSENT
    if labels is not None:
        right = f", {percent(labels.accuracy)} right" if labels.accuracy is not None else ""
        taught = f"{percent(labels.coverage, 0)} kept{right}"
    name = f"generation {part.generation}"
    return [
        f"**{name}** (champion)" if part.generation == champion else name,
        percent(part.test.accuracy),
        span(part.test),
        percent(part.validation.accuracy if part.validation else None),
        percent(part.test.ece),
        taught,
        change(tested) if tested else ABSENT,
    ]


def _row(cells: Sequence[str]) -> str:
    missing = [ABSENT] * (len(COLUMNS) - len(cells))
    return f"| {' | '.join([*cells, *missing])} |"
