"""The figures of the report and of an evaluation, each as an SVG document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from pipeline.errors import counted
from pipeline.evaluate.result import Evaluation, confusion_array
from pipeline.report.data import GenerationResult, ReportData
from pipeline.report.mistakes import Cell
from pipeline.report.svg import (
    BLUE,
    CYCLE,
    GREEN,
    GREY,
    INK,
    MOST_NAMED,
    ORANGE,
    SIZE,
    VIOLET,
    count_by_class,
    name_classes,
    printable,
    svg_figure,
    write_svgs,
)
from pipeline.tasks import Task

MOST_NUMBERED = 20  # classes of a confusion matrix whose cells show their counts
MANY = 100_000  # from here on a cell has no place for a count


def write_evaluation_figures(
    folder: Path, task: Task, test: Evaluation, *, generation: str, classes: Sequence[str]
) -> None:
    """Draw confusion, reliability and the score of each class into `folder`, as SVG."""
    models = {f"generation {generation}": test}
    figures = {
        "confusion": confusion_figure(test, classes),
        "reliability": reliability_figure(models),
        "per_class": per_class_figure(task, models, classes),
    }
    write_svgs(folder, figures)


@svg_figure("accuracy")
def score_figure(ax: Axes, data: ReportData) -> None:
    """Test score by generation with intervals, the ensemble, controls, the peer as a line."""
    names = [part.generation for part in data.generations]
    label = "one centre view"
    if any(part.centre.score != part.test.score for part in data.generations):
        centre = _percent(part.centre.score for part in data.generations)
        style: dict[str, Any] = {"color": GREY, "marker": "s", "markersize": 5, "linestyle": ":"}
        ax.plot(range(len(names)), centre, label=label, **style)
        label = "with views"
    _with_intervals(ax, 0, [part.test for part in data.generations], BLUE, "o", label)
    if data.ensemble is not None:
        _with_intervals(ax, len(names), [data.ensemble], GREEN, "D", "ensemble")
        names.append("all")
    for control in data.controls:
        label = f"labels alone, {counted(control.steps, 'step')}"
        _with_intervals(ax, len(names), [control.result.test], VIOLET, "v", label)
        names.append(printable(control.name))
    if data.baseline is not None and data.baseline.accuracy is not None:
        level = 100 * data.baseline.accuracy
        ax.axhline(level, color=ORANGE, linestyle="--", label=data.baseline.name)
    ax.set_xticks(range(len(names)), names)
    ax.set_xlabel("generation (0: the labels alone)")
    ax.set_ylabel(f"test {data.task.score_words}, %")
    ax.margins(x=0.12, y=0.1)


@svg_figure("pseudo-labels")
def pseudo_label_figure(ax: Axes, data: ReportData) -> None:
    """Coverage, mean confidence and, where known, accuracy of the pseudo-labels by generation."""
    names, audits = list(data.taught), list(data.taught.values())
    for label, color, values in (
        ("coverage", BLUE, [audit.coverage for audit in audits]),
        ("mean confidence", GREY, [audit.mean_confidence for audit in audits]),
        ("accuracy", GREEN, [audit.pseudo_label_accuracy for audit in audits]),
    ):
        if any(value is not None for value in values):
            ax.plot(range(len(names)), _percent(values), color=color, marker="o", label=label)
    ax.set_xticks(range(len(names)), names)
    ax.set_xlabel("generation taught")
    ax.set_ylabel(f"% of {data.task.unit}s")
    ax.margins(x=0.15, y=0.1)


@svg_figure("balance")
def balance_figure(ax: Axes, data: ReportData) -> None:
    """How many images of each class taught each generation, and how many its share would be."""
    width = 0.8 / len(data.taught)
    for index, (name, audit) in enumerate(data.taught.items()):
        color, label = CYCLE[index % len(CYCLE)], f"generation {name}"
        if len(data.classes) > MOST_NAMED:
            ax.plot(audit.images, color=color, linewidth=1, label=label)
            continue
        places = np.arange(len(data.classes)) - 0.4 + width * (index + 0.5)
        ax.bar(places, audit.images, width=width, color=color, label=label)
        if audit.class_shares is not None:
            shares = np.array(audit.class_shares) * sum(audit.images)
            last = "estimated share" if index == len(data.taught) - 1 else ""
            ax.hlines(shares, places - width / 2, places + width / 2, color=INK, label=last)
    count_by_class(ax, data.classes, data.task)


@svg_figure("reliability")
def reliability_figure(ax: Axes, models: Mapping[str, Evaluation]) -> None:
    """Accuracy by confidence, of models by name; size says how many units."""
    ax.plot([0, 100], [0, 100], color=GREY, linestyle=":", label="as it should be")
    for color, (name, test) in zip((ORANGE, BLUE), models.items(), strict=False):
        bins = [part for part in test.reliability if part.accuracy is not None]
        confidence = _percent(part.confidence for part in bins)
        accuracy = _percent(part.accuracy for part in bins)
        units = sum(part.images for part in bins)
        sizes = [12 + 140 * part.images / units for part in bins]
        ax.plot(confidence, accuracy, color=color, linewidth=1)
        ax.scatter(confidence, accuracy, sizes, color=color, label=name)
    ax.set_xlabel("confidence, %")
    ax.set_ylabel("right, %")
    ax.set_xlim(0, 104)
    ax.set_ylim(0, 104)


@svg_figure("confusion", size=(5.2, 5.0))
def confusion_figure(
    ax: Axes, test: Evaluation, classes: Sequence[str], cells: Iterable[Cell] = ()
) -> None:
    """Where test images go: blue on the diagonal, errors orange, stronger with the row's share.

    cells: errors that lead to a place of the page each; svg.with_links names the links.
    """
    confusion = confusion_array(test)
    share = confusion / confusion.sum(axis=1, keepdims=True).clip(1)
    diagonal = np.eye(len(confusion), dtype=np.bool_)
    largest = max(np.where(diagonal, 0, share).max(), 1e-9)
    colors = np.empty((*share.shape, 4))
    colors[..., :3] = np.where(diagonal[..., None], to_rgb(BLUE), to_rgb(ORANGE))
    colors[..., 3] = np.where(diagonal, 0.1 + 0.5 * share, 0.75 * (share / largest) ** 0.5)
    ax.imshow(colors.clip(0, 1), interpolation="nearest")
    ax.grid(visible=False)
    if len(classes) <= MOST_NUMBERED:
        for (row, column), count in np.ndenumerate(confusion):
            if count:
                text = str(count) if count < MANY else f"{count / 1000:.0f}k"
                ax.text(column, row, text, ha="center", va="center", fontsize=8.5)
    for cell in sorted(cells, key=lambda cell: (cell.label, cell.predicted)):
        place = (cell.predicted - 0.5, cell.label - 0.5)
        ax.add_patch(Rectangle(place, 1, 1, fill=False, linewidth=0, zorder=5, url=f"#{cell.key}"))
    unit = "" if len(classes) <= MOST_NAMED else " class number"
    for axis, label in ((ax.xaxis, "predicted"), (ax.yaxis, "true")):
        name_classes(axis, classes)
        axis.set_label_text(label + unit)


@svg_figure("per-class")
def per_class_figure(
    ax: Axes, task: Task, models: Mapping[str, Evaluation], classes: Sequence[str]
) -> None:
    """Test score of each class, of one or two models by name; without test images no mark."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.set_size_inches(SIZE[0], 1.4 + 0.24 * min(len(classes), MOST_NAMED))
    accuracies = [_percent(test.per_class) for test in models.values()]
    places = np.arange(len(classes))
    if len(models) == 2:
        ax.plot(accuracies, [places, places], color=GREY, linewidth=1)
    for name, values, style in zip(models, accuracies, (("s", ORANGE), ("o", BLUE)), strict=False):
        ax.plot(values, places, style[0], color=style[1], label=name)
    name_classes(ax.yaxis, classes)
    ax.invert_yaxis()
    ax.set_xlabel(f"test {task.class_score}, %")


@svg_figure("robustness")
def robustness_figure(ax: Axes, data: ReportData) -> None:
    """Mean accuracy over the corruptions by severity, 0 being the images as they are."""
    for color, (name, result) in zip(cycle(CYCLE), data.robust, strict=False):
        accuracy, label = _percent(result.by_severity), f"generation {name}"
        ax.plot(accuracy, color=color, marker="o", label=label)
    ax.set_xlabel("severity (0: images as they are)")
    ax.set_ylabel("test accuracy, %")
    ax.margins(x=0.05, y=0.1)


@svg_figure("loss")
def loss_figure(ax: Axes, data: ReportData) -> None:
    """Training loss by step, on labels and, of students, on pseudo-labels."""
    for color, part in _trained(data):
        steps, label = part.losses["step"], f"generation {part.generation}"
        ax.plot(steps, part.losses["loss_labeled"], color=color, label=label)
        if part.pseudo_labels is not None:
            ax.plot(steps, part.losses["loss_pseudo"], color=color, linestyle=":")
    ax.set_ylabel("loss (dotted: pseudo-labels)")
    _step_axis(ax)


@svg_figure("validation")
def validation_figure(ax: Axes, data: ReportData) -> None:
    """Score on the validation images by step."""
    for color, part in _trained(data):
        score = _percent(part.validations.get(f"val/{data.task.score}", ()))
        label = f"generation {part.generation}"
        ax.plot(part.validations.get("step", ()), score, color=color, label=label)
    ax.set_ylabel(f"validation {data.task.score_words}, %")
    _step_axis(ax)


def _trained(data: ReportData) -> Iterable[tuple[str, GenerationResult]]:
    """The generations that have steps, with their colours: a head, which is solved, has none."""
    return zip(cycle(CYCLE), [part for part in data.generations if part.losses], strict=False)


def _step_axis(ax: Axes) -> None:
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _with_intervals(
    ax: Axes, place: int, tests: Sequence[Evaluation], color: str, marker: str, label: str
) -> None:
    """Scores side by side from `place` on, with their intervals."""
    centre, low, high = (
        _percent(getattr(test, name) for test in tests) for name in ("score", "low", "high")
    )
    errors = np.stack([centre - low, high - centre]).clip(0)
    places = place + np.arange(len(tests))
    style: dict[str, Any] = {"color": color, "marker": marker, "capsize": 4, "label": label}
    ax.errorbar(places, centre, yerr=errors, **style)


def _percent(shares: Iterable[float | None]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Shares in percent; None becomes NaN, where nothing is drawn."""
    return 100 * np.array(list(shares), np.float64)
