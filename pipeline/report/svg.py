"""Turn matplotlib figures into SVG text: the same bytes each time, readable on light and dark.

Text and axes are drawn in a marker colour that becomes `currentColor`, so that a page's own text
colour decides; nothing has a background.
"""

from __future__ import annotations

import html
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from matplotlib import rc_context, style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from pipeline.errors import visible
from pipeline.files import write_text
from pipeline.tasks import Task

INK = "#010203"
BLUE, ORANGE, GREEN, VIOLET, GREY = "#3d85c6", "#cf6a17", "#2e9a5b", "#9467bd", "#7d8790"
CYCLE = (BLUE, ORANGE, GREEN, VIOLET, "#b8860b", "#c2528b", "#1f9aa8", GREY)
PAGE_INK, PAPER = "#1f272d", "#ffffff"  # of a figure that is shown by itself
MOST_NAMED = 40
SIZE = (5.2, 3.4)  # of a figure, inches
LEAST_HEIGHT = 1.9  # of axes, inches: the longest of their labels
LEGENDS = ((3, None), (2, None), (1, None), (1, 40), (1, 24))  # columns, characters of a name
Arguments = ParamSpec("Arguments")
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def svg_figure(
    name: str, size: tuple[float, float] = SIZE
) -> Callable[[Callable[Concatenate[Axes, Arguments], None]], Callable[Arguments, str]]:
    """Makes of a function that draws into axes one of its other arguments that gives an SVG.

    What it labels goes into a legend. name: prefixes the ids inside, so that figures can share a
    page; size: inches.
    """

    def with_axes(draw: Callable[Concatenate[Axes, Arguments], None]) -> Callable[Arguments, str]:
        @wraps(draw)
        def svg(*args: Arguments.args, **kwargs: Arguments.kwargs) -> str:
            with _settings(name):
                figure = Figure(figsize=size, layout="constrained")
                axes = figure.add_subplot()
                draw(axes, *args, **kwargs)
                if axes.get_legend_handles_labels()[0]:
                    _add_legend(figure)
                _make_room(figure, axes)
                file = io.StringIO()
                figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
            return _tidied(file.getvalue(), name)

        return svg

    return with_axes


@contextmanager
def _settings(name: str) -> Iterator[None]:
    """Draw in our style alone, whatever the caller's, and with the ids of `name`."""
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    settings = {**STYLE, "svg.hashsalt": name}
    with style.context("default"), rc_context(settings), warnings.catch_warnings():
        # Names in scripts that the font lacks are laid out by guess; the browser has the glyphs.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def _add_legend(figure: Figure) -> None:
    """Name what is drawn above the axes, in as many columns, up to three, as there is room for;
    the middle of a name goes where one column has none."""
    for columns, most in LEGENDS:
        legend = figure.legend(loc="outside upper center", ncols=columns, columnspacing=1.2)
        for text in legend.get_texts():
            text.set_text(visible(text.get_text(), most))
        if legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def _make_room(figure: Figure, axes: Axes) -> None:
    """Make the figure taller where its legend and the names of its axes leave little of it."""
    figure.draw_without_rendering()
    lack = LEAST_HEIGHT - axes.get_window_extent().height / figure.dpi
    if lack > 0:
        figure.set_figheight(figure.get_figheight() + lack)


def inline(svg: str, label: str) -> str:
    """An SVG document as an element of a page, with `label` for those who can't see it."""
    role = "group" if "<a " in svg else "img"  # what is in an image can't be followed
    return f'<svg role="{role}" aria-label="{html.escape(label)}"{svg.partition("<svg")[2]}'


def with_links(svg: str, name: str, links: Mapping[str, str]) -> str:
    """The figure `name` with what its links say, by the `key` of "#key" that they lead to.

    They lead to the page's id name-key, from the id name-of-key.
    """
    for key, words in links.items():
        words = html.escape(visible(words))
        svg = svg.replace(
            f'<a xlink:href="#{name}-{key}" target="_blank">',
            f'<a id="{name}-of-{key}" xlink:href="#{name}-{key}" aria-label="{words}">'
            f"<title>{words}</title>",
        )
    return svg


def write_svgs(folder: Path, figures: Mapping[str, str]) -> None:
    """Write figures by name that are shown by themselves, in colours of their own."""
    paper = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
    for name, svg in figures.items():
        start = svg.index(">", svg.index("<svg")) + 1
        whole = (svg[:start] + paper + svg[start:]).replace("currentColor", PAGE_INK)
        write_text(folder / f"{name}.svg", whole)


def name_classes(axis: Axis, classes: Sequence[str]) -> None:
    """Name the places 0, 1, … of an axis by class, where there is room."""
    if len(classes) > MOST_NAMED:
        axis.set_label_text("class number")
        return
    size = 10.5 if len(classes) <= 15 else 8.0 if len(classes) <= 25 else 6.0
    names = [printable(name) for name in classes]
    upright = axis is axis.axes.xaxis and max(map(len, names)) * len(names) > 60
    axis.set_ticks(range(len(names)), names, rotation=90 if upright else 0, fontsize=size)


def count_by_class(ax: Axes, classes: Sequence[str], task: Task) -> None:
    """Label the axes of bars of pseudo-labelled units, one for each class."""
    name_classes(ax.xaxis, classes)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    if not task.image_classes:  # most pixels are of few classes
        logarithmic(ax)
    ax.set_ylabel(f"pseudo-labelled {task.unit}s")
    ax.grid(visible=False, axis="x")


def logarithmic(ax: Axes) -> None:
    """Counts on a logarithmic axis with a place for 0, numbered in full."""
    ax.set_yscale("symlog")
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def printable(name: str, most: int = 18) -> str:
    """A name that XML can hold, on one line, what can't be printed as escapes; the middle goes
    where it is over `most` characters."""
    return visible(" ".join(visible(name).split()) or "?", most)


def _tidied(svg: str, name: str) -> str:
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    return svg.replace(INK, "currentColor")
