"""The report's figures: each a function from the report's data to an SVG document."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pipeline.evaluate.result import Evaluation, confusion_array
from pipeline.report.data import GenerationResult, ReportData, TrainingCurve
from pipeline.report.svg import BLUE, CYCLE, GREEN, GREY, INK, ORANGE, VIOLET, draw_svg, printable

MOST_NAMED = 40
MOST_NUMBERED = 20


def accuracy_figure(data: ReportData) -> str:
    """Test accuracy by generation with intervals, the ensemble, controls, the peer as a line."""

    def draw(ax: Axes) -> None:
        places = np.arange(len(data.generations))
        ax.plot(
            places,
            [100 * part.centre.accuracy for part in data.generations],
            color=GREY,
            marker="s",
            markersize=5,
            linestyle=":",
            label="one centre view",
        )
        _with_interval(ax, places, [part.test for part in data.generations], BLUE, "with views")
        names = [part.generation for part in data.generations]
        if data.ensemble is not None:
            _with_interval(ax, np.array([len(places)]), [data.ensemble], GREEN, "ensemble", "D")
            names.append("all")
        for control in data.controls:
            place = np.array([len(names)])
            steps = f"labels alone, {control.steps:,} steps"
            _with_interval(ax, place, [control.result.test], VIOLET, steps, "v")
            names.append(control.name)
        if data.baseline is not None and data.baseline.accuracy is not None:
            level = 100 * data.baseline.accuracy
            ax.axhline(level, color=ORANGE, linestyle="--", label=data.baseline.name)
        ax.set_xticks(range(len(names)), names)
        ax.set_xlabel("generation (0: the labels alone)")
        ax.set_ylabel("test accuracy, %")
        ax.margins(x=0.12, y=0.1)

    return draw_svg("accuracy", draw)


def pseudo_label_figure(data: ReportData) -> str:
    """Coverage, mean confidence and, where known, accuracy of the pseudo-labels by generation."""
    taught = [part for part in data.generations if part.pseudo_labels is not None]
    labels = [part.pseudo_labels for part in taught if part.pseudo_labels is not None]

    def draw(ax: Axes) -> None:
        places = range(len(taught))
        series: list[tuple[str, str, list[float | None]]] = [
            ("coverage", BLUE, [part.coverage for part in labels]),
            ("mean confidence", GREY, [part.mean_confidence for part in labels]),
            ("accuracy", GREEN, [part.accuracy for part in labels]),
        ]
        for name, color, values in series:
            known = [
                (place, 100 * v) for place, v in zip(places, values, strict=True) if v is not None
            ]
            if known:
                ax.plot(*zip(*known, strict=True), color=color, marker="o", label=name)
        ax.set_xticks(places, [part.generation for part in taught])
        ax.set_xlabel("generation taught")
        ax.set_ylabel("% of images")
        ax.margins(x=0.15, y=0.1)

    return draw_svg("pseudo-labels", draw)


def balance_figure(data: ReportData) -> str:
    """How many images of each class taught each generation, and how many its share would be."""
    taught = [part for part in data.generations if part.pseudo_labels is not None]

    def draw(ax: Axes) -> None:
        width = 0.8 / max(1, len(taught))
        for index, part in enumerate(taught):
            assert part.pseudo_labels is not None
            counts, color = part.pseudo_labels.per_class, CYCLE[index % len(CYCLE)]
            places = np.arange(len(counts)) - 0.4 + width * (index + 0.5)
            label = f"generation {part.generation}"
            if len(counts) <= MOST_NAMED:
                ax.bar(places, counts, width=width, color=color, label=label)
            else:
                ax.plot(counts, color=color, linewidth=1, label=label)
            if part.pseudo_labels.class_shares is not None and len(counts) <= MOST_NAMED:
                due = np.array(part.pseudo_labels.class_shares) * sum(counts)
                name = "estimated share" if part is taught[-1] else None
                ax.plot(places, due, "_", color=INK, markersize=60 * width, label=name)
        _class_ticks(ax, data.classes)
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_ylabel("pseudo-labelled images")
        ax.grid(visible=False, axis="x")

    return draw_svg("balance", draw)


def reliability_figure(data: ReportData) -> str:
    """Accuracy by confidence, of generation 0 and the champion; size says how many images."""

    def draw(ax: Axes) -> None:
        ax.plot([0, 100], [0, 100], color=GREY, linestyle=":", label="as it should be")
        shown = {part.generation: part for part in (data.generations[0], data.champion_result)}
        for color, part in zip((ORANGE, BLUE), shown.values(), strict=False):
            _reliability_curve(ax, part, color)
        ax.set_xlabel("confidence, %")
        ax.set_ylabel("right, %")
        ax.set_xlim(0, 104)
        ax.set_ylim(0, 104)

    return draw_svg("reliability", draw)


def confusion_figure(data: ReportData) -> str:
    """Where the champion's test images go; each row sums to its class, errors stand out."""
    confusion = confusion_array(data.champion_result.test)

    def draw(ax: Axes) -> None:
        classes = len(confusion)
        ax.imshow(_confusion_colors(confusion), interpolation="nearest")
        ax.grid(visible=False)
        if classes <= MOST_NUMBERED:
            for (row, column), count in np.ndenumerate(confusion):
                if count:
                    ax.text(column, row, str(count), ha="center", va="center", fontsize=8.5)
        _class_ticks(ax, data.classes)
        if classes <= MOST_NAMED:
            names = [printable(name) for name in data.classes]
            ax.set_yticks(range(classes), names, fontsize=_tick_size(names))
        unit = "" if classes <= MOST_NAMED else " class number"
        ax.set_xlabel(f"predicted{unit}")
        ax.set_ylabel(f"true{unit}")

    return draw_svg("confusion", draw, size=(5.2, 5.0))


def per_class_figure(data: ReportData) -> str:
    """Accuracy of each class, generation 0 against the champion."""
    first, champion = data.generations[0].test.per_class, data.champion_result.test.per_class
    size = (5.2, 1.4 + 0.24 * len(data.classes))

    def draw(ax: Axes) -> None:
        for place, (before, after) in enumerate(zip(first, champion, strict=True)):
            if before is not None and after is not None:
                ax.plot([100 * before, 100 * after], [place, place], color=GREY, linewidth=1)
        for values, color, marker, name in (
            (first, ORANGE, "s", "generation 0"),
            (champion, BLUE, "o", f"champion (generation {data.champion})"),
        ):
            known = [(100 * v, place) for place, v in enumerate(values) if v is not None]
            ax.plot(*zip(*known, strict=True), marker, color=color, label=name)
        ax.set_yticks(range(len(data.classes)), [printable(name) for name in data.classes])
        ax.invert_yaxis()
        ax.set_xlabel("test accuracy, %")

    return draw_svg("per-class", draw, size=size)


def robustness_figure(data: ReportData) -> str:
    """Mean accuracy over the corruptions by severity, 0 being the images as they are."""

    def draw(ax: Axes) -> None:
        for color, (name, result) in zip(cycle(CYCLE), data.robust, strict=False):
            accuracy = [100 * value for value in result.by_severity]
            ax.plot(
                range(len(accuracy)), accuracy, color=color, marker="o", label=f"generation {name}"
            )
        ax.set_xlabel("severity (0: images as they are)")
        ax.set_ylabel("test accuracy, %")
        ax.margins(x=0.05, y=0.1)

    return draw_svg("robustness", draw)


def loss_figure(data: ReportData) -> str:
    """Training loss by step, on labels and on pseudo-labels."""

    def draw(ax: Axes) -> None:
        for color, (name, curve) in zip(cycle(CYCLE), _curves(data), strict=False):
            ax.plot(curve.steps, curve.loss_labeled, color=color, label=f"generation {name}")
            if curve.loss_pseudo:
                ax.plot(curve.steps, curve.loss_pseudo, color=color, linestyle=":")
        ax.set_ylabel("loss (dotted: pseudo-labels)")
        _step_axis(ax)

    return draw_svg("loss", draw)


def validation_figure(data: ReportData) -> str:
    """Accuracy on the validation images by step."""

    def draw(ax: Axes) -> None:
        for color, (name, curve) in zip(cycle(CYCLE), _curves(data), strict=False):
            accuracy = [100 * value for value in curve.validation_accuracy]
            ax.plot(curve.validation_steps, accuracy, color=color, label=f"generation {name}")
        ax.set_ylabel("validation accuracy, %")
        _step_axis(ax)

    return draw_svg("validation", draw)


def _curves(data: ReportData) -> list[tuple[str, TrainingCurve]]:
    """The curves that have a step: a head, which is solved, has none."""
    return [
        (part.generation, part.curve)
        for part in data.generations
        if part.curve is not None and part.curve.steps
    ]


def _step_axis(ax: Axes) -> None:
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _with_interval(
    ax: Axes,
    places: np.ndarray[tuple[int], np.dtype[np.int64]],
    parts: Sequence[Evaluation],
    color: str,
    label: str,
    marker: str = "o",
) -> None:
    centre = np.array([part.accuracy for part in parts])
    below = (centre - np.array([part.low for part in parts])).clip(0)
    above = (np.array([part.high for part in parts]) - centre).clip(0)
    ax.errorbar(
        places,
        100 * centre,
        yerr=100 * np.stack([below, above]),
        color=color,
        marker=marker,
        capsize=4,
        label=label,
    )


def _reliability_curve(ax: Axes, part: GenerationResult, color: str) -> None:
    bins = [
        (100 * b.confidence, 100 * b.accuracy, 12 + 140 * b.images / part.test.images)
        for b in part.test.reliability
        if b.confidence is not None and b.accuracy is not None
    ]
    confidence, accuracy, sizes = zip(*bins, strict=True)
    ax.plot(confidence, accuracy, color=color, linewidth=1)
    ax.scatter(confidence, accuracy, sizes, color=color, label=f"generation {part.generation}")


def _confusion_colors(
    confusion: np.ndarray[tuple[int, int], np.dtype[np.int64]],
) -> np.ndarray[tuple[int, int, int], np.dtype[np.float64]]:
    """RGBA by cell: blue on the diagonal, orange for errors, stronger with the row's share."""
    share = confusion / confusion.sum(axis=1, keepdims=True).clip(1)
    errors = share * (1 - np.eye(len(share)))
    strength = np.sqrt(errors / max(errors.max(), 1e-9)) * 0.75
    colors = np.zeros((*share.shape, 4))
    colors[..., :3] = [int(ORANGE[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    colors[..., 3] = strength
    diagonal = np.arange(len(share))
    colors[diagonal, diagonal, :3] = [int(BLUE[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    colors[diagonal, diagonal, 3] = 0.1 + 0.5 * share[diagonal, diagonal]
    return colors


def _class_ticks(ax: Axes, classes: Sequence[str]) -> None:
    if len(classes) > MOST_NAMED:
        ax.set_xlabel("class number")
        return
    names = [printable(name) for name in classes]
    size = _tick_size(classes)
    upright = max(len(name) for name in names) * len(names) > 60
    ax.set_xticks(range(len(names)), names, rotation=90 if upright else 0, fontsize=size)


def _tick_size(classes: Sequence[str]) -> float:
    """Font size (points) at which so many names do not overlap."""
    return 10.5 if len(classes) <= 15 else 8.0 if len(classes) <= 25 else 6.0
