"""The figures of one evaluation, as its run in MLflow has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from pipeline.evaluate.result import Evaluation
from pipeline.report.data import GenerationResult, ReportData
from pipeline.report.figures import confusion_figure, reliability_figure
from pipeline.report.svg import BLUE, draw_svg, name_classes, write_svgs


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
