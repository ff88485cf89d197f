"""The figures of single runs in MLflow, drawn from what their stages wrote.

The sender of the tracking spool calls this, not the stage: matplotlib takes a while to import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pipeline.evaluate.result import evaluation_from_json
from pipeline.files import read_json, write_text
from pipeline.report.data import GenerationResult, ReportData
from pipeline.report.figures import confusion_figure, reliability_figure
from pipeline.report.svg import BLUE, GREY, ORANGE, draw_svg, printable

INK, PAPER = "#1f272d", "#ffffff"  # shown as an image, a figure has no page around it
MOST_NAMED = 40
Figures = Mapping[str, str]
Values = Mapping[str, Any]


@dataclass(frozen=True)
class About:
    """Whose figures they are."""

    generation: str
    classes: tuple[str, ...]


def draw(what: str, values: Path, about: Values, out: Path) -> None:
    """Draw the figures `what` (a key of DRAWINGS) of a JSON file into the folder `out`, as SVG.

    about: `generation` and `classes`.
    """
    whose = About(str(about["generation"]), tuple(about["classes"]))
    for name, svg in DRAWINGS[what](read_json(values), whose).items():
        write_text(out / f"{name}.svg", on_paper(svg))


def on_paper(svg: str) -> str:
    """A figure of pipeline.report.svg with colours of its own."""
    start = svg.index(">", svg.index("<svg")) + 1
    paper = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
    return (svg[:start] + paper + svg[start:]).replace("currentColor", INK)


def evaluation_figures(result: Values, about: About) -> Figures:
    """Confusion, reliability and accuracy by class, of an evaluation's result.json."""
    test, centre = (evaluation_from_json(result[name]) for name in ("test", "centre"))
    whole = GenerationResult(about.generation, test, centre)
    data = ReportData("", about.classes, {}, (whole,), about.generation, "")
    return {
        "confusion": confusion_figure(data),
        "reliability": reliability_figure(data),
        "per_class": per_class_figure(whole.test.per_class, about.classes),
    }


def selection_figures(audit: Values, about: About) -> Figures:
    """Class balance and confidences, of an audit."""
    return {
        "class_balance": balance_figure(audit["images"], audit["repeats"], about.classes),
        "confidence": confidence_figure(audit["histogram"], audit["kept_histogram"]),
    }


def per_class_figure(accuracy: Sequence[float | None], classes: Sequence[str]) -> str:
    """Test accuracy of each class; a class without test images has no bar."""

    def bars(ax: Axes) -> None:
        places = np.arange(len(classes))
        ax.bar(places, [100 * (value or 0) for value in accuracy], color=BLUE)
        lowest = min((value for value in accuracy if value is not None), default=0.0)
        ax.set_ylim(max(0, 100 * lowest - 5), 100.5)
        ax.set_ylabel("test accuracy, %")
        _name_classes(ax, classes)

    return draw_svg("per-class", bars)


def balance_figure(kept: Sequence[int], counted: Sequence[int], classes: Sequence[str]) -> str:
    """How many images of each class are kept, and how often they count with repeats."""

    def bars(ax: Axes) -> None:
        places = np.arange(len(classes))
        ax.bar(places, counted, color=ORANGE, alpha=0.5, label="counted, with repeats")
        ax.bar(places, kept, width=0.5, color=BLUE, label="images kept")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_ylabel("pseudo-labelled images")
        _name_classes(ax, classes)

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


def _name_classes(ax: Axes, classes: Sequence[str]) -> None:
    ax.grid(visible=False, axis="x")
    if len(classes) > MOST_NAMED:
        ax.set_xlabel("class number")
        return
    names = [printable(name) for name in classes]
    upright = max(len(name) for name in names) * len(names) > MOST_NAMED
    ax.set_xticks(range(len(names)), names, rotation=90 if upright else 0)


DRAWINGS: dict[str, Callable[[Values, About], Figures]] = {
    "evaluation": evaluation_figures,
    "selection": selection_figures,
}
