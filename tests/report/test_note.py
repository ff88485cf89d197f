"""The Markdown that describes a lineage in MLflow."""

from __future__ import annotations

import html
from dataclasses import replace

from pipeline.report.note import COLUMNS, escaped, headline, render_note
from tests.report.example import example_report


def rows(note: str) -> list[list[str]]:
    lines = [line for line in note.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_generation_has_its_row_with_the_figures_of_the_report() -> None:
    data = example_report()
    table = rows(render_note(data))
    assert {len(row) for row in table} == {len(COLUMNS)}
    names = [row[0] for row in table[2:]]
    assert names == [
        *(f"generation {number}" for number in range(3)),
        "**generation 3** (champion)",
        "ensemble",
        "LabelSpreading",
    ]
    for row, part in zip(table[2:], data.generations, strict=False):
        assert row[1] == f"{100 * part.test.accuracy:.1f} %"
    assert "points" in table[3][-1]


def test_the_headline_is_the_champion_and_what_it_is_held_against() -> None:
    data = example_report()
    first, *_, last = data.generations
    assert data.ensemble is not None
    assert headline(data) == {
        "test/accuracy": last.test.accuracy,
        "test/accuracy/generation_0": first.test.accuracy,
        "test/accuracy/ensemble": data.ensemble.accuracy,
    }
    assert headline(replace(data, ensemble=None, champion="0"))["test/accuracy"] == (
        first.test.accuracy
    )


def test_the_verdict_comes_first_and_the_counts_are_said() -> None:
    note = render_note(example_report())
    assert note.startswith("## digits: ")
    assert "35 labelled, 848 unlabelled, 15 validation, 899 test images of 10 classes." in note


def test_nothing_in_a_name_is_markup() -> None:
    name = "<img src=x>|[a](b)*"
    note = render_note(replace(example_report(), dataset=name))
    assert "<img" not in note
    assert "[a](b)" not in note
    assert html.unescape(note.splitlines()[0]).startswith(f"## {name}: ")
    assert rows(f"| {escaped('a|b')} |") == [["a&#124;b"]]


def test_a_run_without_validation_or_truth_has_dashes() -> None:
    note = render_note(example_report(validation=False, truth=False))
    assert rows(note)[2][3] == "–"
    assert "right" not in rows(note)[3][5]
