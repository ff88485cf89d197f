"""Pictures that stages log beside their metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pipeline.evaluate.result import Evaluation
from pipeline.labels.audit import Audit
from pipeline.report.data import GenerationResult, ReportData
from pipeline.report.figures import confusion_figure, reliability_figure
from pipeline.report.svg import BLUE, GREY, ORANGE, draw_svg, name_classes, write_svgs


def write_evaluation_figures(
    folder: Path, test: Evaluation, centre: Evaluation, *, generation: str, classes: Sequence[str]
) -> None:
    """Draw confusion, reliability and accuracy by class into `folder`, as SVG."""
    whole = GenerationResult(generation, test, centre)
    data = ReportData("", tuple(classes), {}, (whole,), generation, "")
    figures = {
        "confusion": confusion_figure(data),
        "reliability": reliability_figure(data),
        "per_class": per_class_figure(test.per_class, classes),
    }
    write_svgs(folder, figures)


def per_class_figure(accuracy: Sequence[float | None], classes: Sequence[str]) -> str:
    """Test accuracy of each class; a class without test images has no bar."""

    def bars(ax: Axes) -> None:
        places = np.arange(len(classes))
        ax.bar(places, [100 * (value or 0) for value in accuracy], color=BLUE)
        lowest = min((value for value in accuracy if value is not None), default=0.0)
        ax.set_ylim(max(0, 100 * lowest - 5), 100.5)
        ax.set_ylabel("test accuracy, %")
        name_classes(ax, classes)

    return draw_svg("per-class", bars)


def write_selection_figures(folder: Path, audit: Audit, classes: Sequence[str]) -> None:
    """Draw class balance and confidences into `folder`, as SVG."""
    figures = {
        "class_balance": balance_figure(audit.images, audit.repeats, classes),
        "confidence": confidence_figure(audit.histogram, audit.kept_histogram),
    }
    write_svgs(folder, figures)


def balance_figure(kept: Sequence[int], counted: Sequence[int], classes: Sequence[str]) -> str:
    """How many images of each class are kept, and how often they count with repeats."""

    def bars(ax: Axes) -> None:
        places = np.arange(len(classes))
        ax.bar(places, counted, color=ORANGE, alpha=0.5, label="counted, with repeats")
        ax.bar(places, kept, width=0.5, color=BLUE, label="images kept")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_ylabel("pseudo-labelled images")
        name_classes(ax, classes)

    return draw_svg("class-balance", bars)


def confidence_figure(all_images: Sequence[int], kept: Sequence[int]) -> str:
    """How many images have which confidence, and how many of those are kept."""

    def bars(ax: Axes) -> None:
        edges = np.linspace(0, 100, len(all_images) + 1)
        for counts, color, label in ((all_images, GREY, "all"), (kept, BLUE, "kept")):
            ax.bar(edges[:-1], counts, edges[1], align="edge", color=color, label=label)
        ax.set_yscale("symlog")  # most images are sure, and the few that are not are of interest
        ax.set_xlim(0, 100)
        ax.set_xlabel("confidence, %")
        ax.set_ylabel("unlabelled images")

    return draw_svg("confidence", bars)
