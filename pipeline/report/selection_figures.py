"""The figures of a selection of pseudo-labels, which the stage select logs; what they count is the
task's unit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from pipeline.labels.audit import Audit
from pipeline.report.svg import (
    BLUE,
    GREY,
    ORANGE,
    count_by_class,
    logarithmic,
    svg_figure,
    write_svgs,
)
from pipeline.tasks import Task


def write_selection_figures(folder: Path, audit: Audit, classes: Sequence[str], task: Task) -> None:
    """Draw class balance and confidences into `folder`, as SVG."""
    figures = {
        "class_balance": repeats_figure(audit, classes, task),
        "confidence": confidence_figure(audit, task.unit),
    }
    write_svgs(folder, figures)


@svg_figure("class-balance")
def repeats_figure(ax: Axes, audit: Audit, classes: Sequence[str], task: Task) -> None:
    """How many units of each class are selected, as bars; marks: how often they count where some
    are repeated."""
    places = np.arange(len(classes))
    ax.bar(places, audit.images, color=BLUE, label=f"{task.unit}s kept")
    if audit.repeats != audit.images:
        label = "counted, with repeats"
        ax.hlines(audit.repeats, places - 0.4, places + 0.4, color=ORANGE, label=label)
    count_by_class(ax, classes, task)


@svg_figure("confidence")
def confidence_figure(ax: Axes, audit: Audit, unit: str) -> None:
    """How many units have which confidence, and how many of those are selected."""
    edges = np.linspace(0, 100, len(audit.histogram) + 1)
    bars = (audit.histogram, GREY, "all"), (audit.kept_histogram, BLUE, "kept")
    for counts, color, label in bars:
        ax.bar(edges[:-1], counts, edges[1], align="edge", color=color, label=label)
    logarithmic(ax)  # most images are sure, and the few that are not are of interest
    ax.set_xlim(0, 100)
    ax.set_xlabel("confidence, %")
    ax.set_ylabel(f"unlabelled {unit}s")
