from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.evaluate.result import evaluate
from pipeline.report.figures import (
    balance_figure,
    confusion_figure,
    loss_figure,
    per_class_figure,
    score_figure,
    write_evaluation_figures,
)
from pipeline.report.page import page_figures
from pipeline.report.selection_figures import repeats_figure, write_selection_figures
from pipeline.report.svg import (
    LEAST_HEIGHT,
    inline,
    name_classes,
    printable,
    svg_figure,
)
from pipeline.tasks import open_task
from tests.report.example import (
    DIGITS,
    example_audit,
    example_report,
    predictions,
    with_control,
    with_heads,
    with_robustness,
)

TASK = open_task("classification")

FIGURES = (
    *("score", "pseudo_labels", "balance", "reliability", "confusion", "per_class"),
    *("robustness", "loss", "validation"),
)
ODD_NAMES = (
    "<b>&\"'", "$x^2$ $", r"two\nlines\x00\x1b", "日本語", "", "a" * 300, "\udcff", "plain"
)  # fmt: skip


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(part.itertext()).strip() for part in root.iter() if part.tag.endswith("}text")]


def test_every_figure_is_valid_and_repeats_its_bytes() -> None:
    data = with_robustness(example_report())
    drawn = page_figures(data)
    assert set(drawn) == set(FIGURES)
    for svg in drawn.values():
        assert ElementTree.fromstring(svg).tag.endswith("}svg")
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": "other"}):
        assert page_figures(data) == drawn


def test_odd_class_names_are_drawn_as_they_are() -> None:
    drawn = page_figures(example_report(ODD_NAMES, skills=(5.0, 6.0)))
    for figure in ("confusion", "per_class", "balance"):
        shown = texts(drawn[figure])
        for name in ("<b>&\"'", "$x^2$ $", r"two\nlines\x00\x1b", "日本語", "?", "plain"):
            assert name in shown


def test_robustness_figure_has_a_line_for_each_generation() -> None:
    svg = page_figures(with_robustness(example_report(skills=(5.0, 6.0))))["robustness"]
    assert {"generation 0", "generation 1", "severity (0: images as they are)"} <= set(texts(svg))


def test_ink_is_the_page_s_and_nothing_has_a_background() -> None:
    svg = score_figure(example_report())
    assert "currentColor" in svg
    assert "#010203" not in svg
    assert "#ffffff" not in svg
    assert "<dc:date>" not in svg


def test_accuracy_figure_names_generations_ensemble_and_peer() -> None:
    shown = texts(score_figure(example_report()))
    for words in ("0", "1", "2", "3", "all", "LabelSpreading", "with views", "one centre view"):
        assert words in shown


def test_where_views_change_nothing_they_are_not_drawn_twice() -> None:
    data = example_report()
    parts = tuple(replace(part, centre=part.test) for part in data.generations)
    shown = texts(score_figure(replace(data, generations=parts)))
    assert "one centre view" in shown
    assert "with views" not in shown


def test_accuracy_figure_shows_the_labels_alone_trained_for_longer() -> None:
    data = example_report()
    assert "longer" not in texts(score_figure(data))
    shown = texts(score_figure(with_control(data, 6.0)))
    assert {"longer", "labels alone, 2,300 steps"} <= set(shown)


def test_confusion_figure_shows_the_counts() -> None:
    data = example_report()
    test = data.champion_result.test
    counts = [str(count) for row in test.confusion for count in row if count]
    shown = texts(confusion_figure(test, data.classes))
    assert all(shown.count(count) >= counts.count(count) for count in counts)


def test_many_classes_are_drawn_without_names() -> None:
    names = tuple(f"class {number}" for number in range(120))
    test = evaluate(TASK, *predictions(120, 5.0), 120)
    for svg in (confusion_figure(test, names), per_class_figure(TASK, {"model": test}, names)):
        assert "class 7" not in texts(svg)
        assert any("class number" in text for text in texts(svg))


def test_inline_figures_have_a_label_and_ids_of_their_own() -> None:
    data = example_report()
    first = inline(score_figure(data), 'says "a < b"')
    second = inline(loss_figure(data), "loss")
    root = ElementTree.fromstring(first)
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'says "a < b"'
    ids = [
        part.get("id")
        for text in (first, second)
        for part in ElementTree.fromstring(text).iter()
        if part.get("id")
    ]
    assert len(ids) == len(set(ids))


def test_references_inside_a_figure_are_kept() -> None:
    root = ElementTree.fromstring(score_figure(example_report()))
    ids = {part.get("id") for part in root.iter()}
    links = [part.get("{http://www.w3.org/1999/xlink}href") for part in root.iter()]
    used = [link.removeprefix("#") for link in links if link]
    assert used
    assert set(used) <= ids


def test_long_names_keep_both_ends() -> None:
    assert printable("class with a long name 12") != printable("class with a long name 13")
    assert len(printable("x" * 100)) == 18
    assert printable("short") == "short"
    assert printable("new\nline") == r"new\nline"


@pytest.mark.parametrize(
    "labels", [("a", "b", "c"), ("one centre view", "x" * 30, "y" * 34, "z"), ("W" * 300, "a")]
)
def test_a_legend_stays_within_its_figure(labels: tuple[str, ...]) -> None:
    seen: list[Axes] = []

    def draw(axes: Axes) -> None:
        seen.append(axes)
        for label in labels:
            axes.plot([0, 1], label=label)

    svg_figure("f")(draw)()
    figure = seen[0].get_figure(root=True)
    assert figure is not None
    (legend,) = figure.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert [text[:8] for text in shown] == [label[:8] for label in labels]
    assert shown == list(labels) or "W…W" in shown[0]
    assert legend.get_window_extent().width <= figure.bbox.width


def test_many_entries_and_long_names_leave_the_axes_their_height() -> None:
    seen: list[Axes] = []

    def draw(axes: Axes) -> None:
        seen.append(axes)
        for number in range(9):
            axes.bar(range(9), range(9), label=f"a rather long label {number}")
        name_classes(axes.xaxis, [f"a class of a name {number}" for number in range(9)])

    svg_figure("f")(draw)()
    figure = seen[0].get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    assert seen[0].get_window_extent().height / figure.dpi > 0.95 * LEAST_HEIGHT


def drawn_into(draw: Any, *arguments: Any) -> Any:
    """The axes that a figure's own function draws into."""
    axes = Figure().add_subplot()
    draw.__wrapped__(axes, *arguments)
    return axes


@pytest.mark.parametrize("classes", [3, 12, 40])
def test_marks_of_class_shares_are_as_wide_as_their_bars(classes: int) -> None:
    names = tuple(f"class {number}" for number in range(classes))
    data = with_heads(example_report(names, skills=(5.0, 6.0, 6.5, 7.0)))
    axes = drawn_into(balance_figure, data)
    bars = {round(bar.get_x(), 6): bar.get_width() for bar in axes.patches}
    marks = [path for lines in axes.collections for path in lines.get_paths()]
    assert len(marks) == len(bars) == 3 * classes
    for mark in marks:
        (left, _), (right, _) = mark.vertices
        assert bars[round(float(left), 6)] == pytest.approx(right - left)


def test_bars_of_a_selection_count_each_image_once() -> None:
    plain = example_audit(3)
    repeated = replace(plain, repeats=[5 * count for count in plain.images])
    for audit in (plain, repeated):
        axes = drawn_into(repeats_figure, audit, ["a", "b", "c"], TASK)
        assert sum(bar.get_height() for bar in axes.patches) == audit.kept
        labels = axes.get_legend_handles_labels()[1]
        assert ("counted, with repeats" in labels) == (audit is repeated)


def words(path: Path) -> str:
    return " ".join(ElementTree.parse(path).getroot().itertext())


@pytest.mark.parametrize("classes", [DIGITS, tuple(f"class {n}" for n in range(60))])
def test_an_evaluation_has_three_figures(tmp_path: Path, classes: tuple[str, ...]) -> None:
    test = evaluate(TASK, *predictions(len(classes), 6.0), len(classes))
    write_evaluation_figures(tmp_path, TASK, test, generation="2.1", classes=classes)
    paths = sorted(tmp_path.iterdir())
    assert [path.name for path in paths] == ["confusion.svg", "per_class.svg", "reliability.svg"]
    assert "generation 2.1" in words(tmp_path / "reliability.svg")
    for path in paths:
        assert "currentColor" not in path.read_text()  # black on black where MLflow is dark
        assert 'fill="#ffffff"' in path.read_text()


def test_a_selection_shows_balance_and_confidence(tmp_path: Path) -> None:
    write_selection_figures(tmp_path, example_audit(3), ["cat", "<dog>", "猫"], TASK)
    balance = words(tmp_path / "class_balance.svg")
    assert all(name in balance for name in ("cat", "<dog>", "猫", "images kept"))
    assert "confidence, %" in words(tmp_path / "confidence.svg")
    assert "math" not in words(tmp_path / "confidence.svg")  # as matplotlib writes powers of ten


def test_a_selection_of_pixels_says_that_they_are_a_sample(tmp_path: Path) -> None:
    write_selection_figures(tmp_path, example_audit(2), ["sky", "road"], open_task("segmentation"))
    balance = words(tmp_path / "class_balance.svg")
    assert "sampled pixels kept" in balance
    assert "10" in balance.split()
    assert "math" not in balance
    assert "unlabelled sampled pixels" in words(tmp_path / "confidence.svg")
