"""The report as one self-contained HTML page: no network, the same bytes each time.

Its one script lets a person label the images of the galleries; its digest is in the page's
content security policy, so that nothing else can run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.errors import counted, visible
from pipeline.evaluate.champion import model_words
from pipeline.evaluate.result import Evaluation, confusion_array
from pipeline.report import figures
from pipeline.report.data import ReportData
from pipeline.report.decisions import decisions
from pipeline.report.summary import model_rows
from pipeline.report.svg import MOST_NAMED, inline, printable, with_links
from pipeline.report.words import (
    ABSENT,
    answer,
    body_sentences,
    issues_sentence,
    p_value,
    percent,
    points,
    validation_note,
)
from pipeline.workflow.times import StageTime

MOST_CONFUSIONS = 8
NAME_LENGTH = 60
COUNT_NAMES = {  # of several, of one
    "seen": ("files and rows seen", "file or row seen"),
    "labeled": ("labelled images", "labelled image"),
    "unlabeled": ("unlabelled images", "unlabelled image"),
    "validation": ("validation images", "validation image"),
    "test": ("test images", "test image"),
    "quarantined": ("quarantined (unusable)",) * 2,
    "duplicates_dropped": ("copies of held-out images", "copy of a held-out image"),
    "other_files": ("files of other kinds", "file of another kind"),
    "grouped": ("of a group that is held out",) * 2,
    "corrected": ("labelled by a person",) * 2,
    "excluded": ("none of the classes (a person)",) * 2,
}
ALWAYS = ("labeled", "unlabeled", "test")  # shown although there are none


def render_report(data: ReportData) -> str:
    """The whole page as HTML text; every name in `data` is escaped."""
    champion = data.champion_result
    cells = data.mistakes.cells if data.mistakes else ()
    return render(
        "report.html",
        data=data,
        answer=answer(data),
        decisions=decisions(data),
        validation_note=validation_note(data),
        bodies=body_sentences(data),
        champion=champion,
        champion_words=model_words(data.champion),
        rows=model_rows(data),
        counts=named_counts(data),
        task=data.task,
        units=f"{data.task.unit}s",
        confusions=worst_confusions(champion.test, data.classes),
        issues_sentence=issues_sentence(data),
        figures=page_figures(data),
        galleries=data.galleries,
        cells={(data.classes[cell.label], data.classes[cell.predicted]): cell for cell in cells},
        pictures=data.pictures,
        classes=data.classes,
        generation=data.generations[-1].generation,
    )


def render_times(times: Sequence[StageTime]) -> str:
    """The page of the stages' times, which differ from run to run."""
    return render("times.html", times=times)


def render(template: str, **values: Any) -> str:
    """A page from one of the templates of this package, and the words that they share."""
    environment = Environment(
        loader=PackageLoader("pipeline.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {
        "percent": percent,
        "points": points,
        "p_value": p_value,
        "counted": counted,
        "number": lambda count: ABSENT if count is None else f"{count:,}",
        "parameter": parameter_text,
        "name": lambda name: printable(str(name), NAME_LENGTH),
        "sentence": lambda text: text[:1].upper() + text[1:],
        "digest": lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode(),
        "inline": lambda svg, label: Markup(inline(svg, label)),  # nosec B704 # escaped in the SVG
    }
    return environment.get_template(template).render(values)


def parameter_text(value: Any) -> str:
    """The value of a parameter as params.yaml has it, on one line."""
    if value is None or isinstance(value, str):
        return value or ABSENT
    return json.dumps(value, default=str, ensure_ascii=False)


def _shown(value: Any) -> Any:
    """What a template shows: names made visible, numbers on one line with their %, a dash for
    what there is not."""
    if value is None:
        return ABSENT
    words = isinstance(value, str) and not isinstance(value, Markup)
    return visible(value).replace(" %", "\u00a0%") if words else value


def named_counts(data: ReportData) -> list[tuple[str, int]]:
    """The counts with words for their keys, the known ones first."""
    counts = {key: count for key, count in data.counts.items() if count or key in ALWAYS}
    known = [
        (words[counts[key] == 1], counts[key])
        for key, words in COUNT_NAMES.items()
        if key in counts
    ]
    others = sorted(counts.keys() - COUNT_NAMES)
    return known + [(key.replace("_", " "), counts[key]) for key in others]


def worst_confusions(test: Evaluation, classes: Sequence[str]) -> list[tuple[str, str, int, float]]:
    """The most frequent errors: true class, predicted class, units, share of the true class."""
    confusion = confusion_array(test)
    errors = confusion * (1 - np.eye(len(confusion), dtype=np.int64))
    order = np.argsort(-errors, axis=None, kind="stable")[:MOST_CONFUSIONS]
    places = zip(*(axis.tolist() for axis in np.unravel_index(order, errors.shape)), strict=True)
    return [
        (classes[row], classes[column], int(count), float(count / confusion[row].sum()))
        for row, column in places
        if (count := errors[row, column])
    ]


def page_figures(data: ReportData) -> dict[str, str]:
    """The figures that the data allow, by the name that the page shows them under."""
    first, champion = data.generations[0], data.champion_result
    both = {model_words(part.generation): part.test for part in (first, champion)}
    svgs = {
        "score": figures.score_figure(data),
        "reliability": figures.reliability_figure(both),
        "confusion": confusion(data),
    }
    if len(data.classes) <= MOST_NAMED:
        name = f"champion ({model_words(data.champion)})"
        models = {"generation 0": first.test, name: champion.test}
        svgs["per_class"] = figures.per_class_figure(data.task, models, data.classes)
    if data.taught:
        svgs["pseudo_labels"] = figures.pseudo_label_figure(data)
        svgs["balance"] = figures.balance_figure(data)
    if data.robust:
        svgs["robustness"] = figures.robustness_figure(data)
    if any(part.losses for part in data.generations):
        svgs["loss"] = figures.loss_figure(data)
    if any(part.validations for part in data.generations):
        svgs["validation"] = figures.validation_figure(data)
    return svgs


def confusion(data: ReportData) -> str:
    """The champion's confusion matrix; errors whose images are on the page lead to them."""
    cells = data.mistakes.cells if data.mistakes else ()
    svg = figures.confusion_figure(data.champion_result.test, data.classes, cells)
    return with_links(svg, "confusion", {cell.key: cell.gallery.title for cell in cells})
