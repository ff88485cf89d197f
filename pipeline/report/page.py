"""The report as one self-contained HTML page: no network, the same bytes each time.

Its one script lets a person label the images of the galleries; its digest is in the page's
content security policy, so that nothing else can run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.evaluate.result import confusion_array
from pipeline.report import figures
from pipeline.report.data import GenerationResult, ReportData
from pipeline.report.svg import inline, printable
from pipeline.report.words import (
    answer,
    body_sentences,
    change,
    issues_sentence,
    p_value,
    percent,
    points,
    span,
    validation_note,
)
from pipeline.workflow.times import StageTime

MOST_CONFUSIONS = 8
MOST_ISSUES = 10
MOST_REASONS = 12
NAME_LENGTH = 60
COUNT_NAMES = {
    "seen": "files and rows seen",
    "labeled": "labelled images",
    "unlabeled": "unlabelled images",
    "validation": "validation images",
    "test": "test images",
    "quarantined": "quarantined (unusable)",
    "duplicates_dropped": "copies of held-out images",
    "other_files": "files of other kinds",
    "grouped": "of a group that is held out",
    "corrected": "labelled by a person",
    "excluded": "none of the classes (a person)",
}


@dataclass(frozen=True)
class PageFigure:
    """A figure of the page: SVG to be inserted as it is, and what it shows."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class PageScript:
    """A script that goes into the page as it is, and its digest for the policy."""

    text: Markup
    digest: str


def render_report(data: ReportData) -> str:
    """The whole page as HTML text; every name in `data` is escaped."""
    page: str = (
        page_environment()
        .get_template("report.html")
        .render(
            data=data,
            answer=answer(data),
            validation_note=validation_note(data),
            bodies=body_sentences(data),
            champion=data.champion_result,
            counts=named_counts(data),
            unused=data.unused[:MOST_REASONS],
            num_unused=sum(count for _, count, _ in data.unused),
            taught=[part for part in data.generations if part.pseudo_labels is not None],
            confusions=worst_confusions(data.champion_result, data.classes),
            class_rows=class_rows(data),
            issues=data.label_issues[:MOST_ISSUES],
            issues_sentence=issues_sentence(data),
            corruptions=corruption_rows(data),
            figures=page_figures(data),
            script=gallery_script(),
            **page_styles(),
        )
    )
    return page


def render_times(times: Sequence[StageTime]) -> str:
    """The page of the stages' times, which differ from run to run."""
    total = f"{sum(row.seconds for row in times):,.0f} s"
    page: str = page_environment().get_template("times.html").render(times=times, total=total)
    return page


def page_environment() -> Environment:
    """The templates of this package, and the words that they share."""
    environment = Environment(
        loader=PackageLoader("pipeline.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_unparted,
    )
    environment.filters |= {
        "percent": percent,
        "points": points,
        "p_value": p_value,
        "span": span,
        "change": change,
        "name": lambda name: printable(str(name), NAME_LENGTH),
        "whole": lambda name: str(name).encode("utf-8", "replace").decode("utf-8"),
    }
    return environment


def _unparted(value: Any) -> Any:
    """What a template shows, numbers kept on one line with their %."""
    words = isinstance(value, str) and not isinstance(value, Markup)
    return value.replace(" %", "\u00a0%") if words else value


def page_styles() -> dict[str, Markup]:
    """The style sheets as templates name them, to be inserted as they are."""
    sheets = {"page_style": "page.css", "gallery_style": "galleries.css"}
    return {name: Markup(_resource(file)) for name, file in sheets.items()}  # nosec B704


def gallery_script() -> PageScript:
    """The galleries' script and its SHA-256 as a content security policy names it."""
    text = "\n" + _resource("galleries.js")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return PageScript(Markup(text), f"sha256-{digest}")  # nosec B704 # of this package


def _resource(name: str) -> str:
    return files("pipeline.report").joinpath(name).read_text(encoding="utf-8")


def named_counts(data: ReportData) -> list[tuple[str, int]]:
    """The counts with words for their keys, the known ones first."""
    known = [(words, data.counts[key]) for key, words in COUNT_NAMES.items() if key in data.counts]
    others = sorted(key for key in data.counts if key not in COUNT_NAMES)
    return known + [(key.replace("_", " "), data.counts[key]) for key in others]


def worst_confusions(
    result: GenerationResult, classes: tuple[str, ...], most: int = MOST_CONFUSIONS
) -> list[dict[str, Any]]:
    """The most frequent errors: true class, predicted class, images, share of the true class."""
    confusion = confusion_array(result.test)
    errors = confusion * (1 - np.eye(len(confusion), dtype=np.int64))
    order = np.argsort(-errors, axis=None, kind="stable")[:most].tolist()
    pairs = [divmod(place, len(confusion)) for place in order]
    return [
        {
            "true": classes[row],
            "predicted": classes[column],
            "images": int(errors[row, column]),
            "share": float(errors[row, column] / confusion[row].sum()),
        }
        for row, column in pairs
        if errors[row, column]
    ]


def class_rows(data: ReportData) -> list[dict[str, Any]]:
    """By class: test images, accuracy of generation 0 and champion, and its last pseudo-labels."""
    first, champion = data.generations[0].test, data.champion_result.test
    images = confusion_array(champion).sum(axis=1).tolist()
    last = data.generations[-1].pseudo_labels
    known = last.accuracy_per_class if last and last.accuracy_per_class else None
    return [
        {
            "name": name,
            "images": images[place],
            "first": first.per_class[place],
            "champion": champion.per_class[place],
            "pseudo_labels": last.per_class[place] if last else None,
            "pseudo_accuracy": known[place] if known else None,
        }
        for place, name in enumerate(data.classes)
    ]


def corruption_rows(data: ReportData) -> list[dict[str, Any]]:
    """By corruption: each tested generation's mean accuracy over the severities."""
    tested = [result for _, result in data.robust]
    if not tested:
        return []
    return [
        {
            "name": name.replace("_", " "),
            "accuracies": [float(np.mean(result.accuracy[name])) for result in tested],
        }
        for name in tested[0].accuracy
    ]


def page_figures(data: ReportData) -> dict[str, PageFigure]:
    """The figures that the data allow, by name, each with words for those who can't see it."""
    champion = data.champion_result
    shown = ", ".join(
        f"generation {part.generation} {percent(part.test.accuracy)}" for part in data.generations
    )
    shown += "".join(
        f", the labels alone for {control.steps:,} steps {percent(control.result.test.accuracy)}"
        for control in data.controls
    )
    made = {
        "accuracy": (figures.accuracy_figure(data), f"Test accuracy by generation: {shown}."),
        "reliability": (
            figures.reliability_figure(data),
            "How often predictions of a given confidence are right; larger dots hold more images. "
            f"Calibration error of the champion: {percent(champion.test.ece)}.",
        ),
        "confusion": (
            figures.confusion_figure(data),
            f"True against predicted classes of the champion (generation {data.champion}); "
            "errors are orange, rows add up to the images of a class.",
        ),
    }
    if len(data.classes) <= figures.MOST_NAMED:
        made["per_class"] = (
            figures.per_class_figure(data),
            "Test accuracy of each class, generation 0 against the champion.",
        )
    if any(part.pseudo_labels for part in data.generations):
        made["pseudo_labels"] = (
            figures.pseudo_label_figure(data),
            "Pseudo-labels by generation: share of the unlabelled images kept, their mean "
            "confidence and, where the truth is known, how many are right.",
        )
        made["balance"] = (
            figures.balance_figure(data),
            "Pseudo-labelled images of each class, by the generation they taught; marks: the share "
            "that each class was estimated to have, where predictions were aligned with it.",
        )
    if data.robust:
        made["robustness"] = (
            figures.robustness_figure(data),
            "Test accuracy under corruptions, their mean by severity, one centre view.",
        )
    if any(part.curve and part.curve.steps for part in data.generations):
        made["loss"] = (
            figures.loss_figure(data),
            "Training by step: loss on labels (solid) and on pseudo-labels (dotted).",
        )
    if any(part.curve and part.curve.validation_accuracy for part in data.generations):
        made["validation"] = (
            figures.validation_figure(data),
            "Accuracy on the validation images during training, of the averaged weights.",
        )
    return {
        name: PageFigure(Markup(inline(svg, caption)), caption)  # nosec B704 # escaped in the SVG
        for name, (svg, caption) in made.items()
    }
