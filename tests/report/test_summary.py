"""The report in short: the terminal's table and the Markdown that describes a lineage."""

from __future__ import annotations

import html
from dataclasses import replace

from pipeline.evaluate.label_issues import LabelIssue
from pipeline.report.summary import (
    NOTE_COLUMNS,
    escaped,
    headline,
    render_note,
    render_table,
)
from tests.report.example import example_report


def rows(note: str) -> list[list[str]]:
    lines = [line for line in note.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_generation_has_its_row_with_the_figures_of_the_report() -> None:
    data = example_report()
    table = rows(render_note(data))
    assert {len(row) for row in table} == {1 + len(NOTE_COLUMNS)}
    names = [row[0] for row in table[2:]]
    assert names == [
        *(f"generation {number}" for number in range(3)),
        "**generation 3** (champion)",
        "ensemble",
        "LabelSpreading",
    ]
    for row, part in zip(table[2:], data.generations, strict=False):
        assert row[1] == f"{100 * part.test.score:.1f} %"
    assert "points" in table[3][-1]


def test_the_headline_is_the_champion_and_what_it_is_held_against() -> None:
    data = example_report()
    first, *_, last = data.generations
    assert data.ensemble is not None
    assert headline(data) == {
        "test/accuracy": last.test.score,
        "test/accuracy/generation_0": first.test.score,
        "test/accuracy/ensemble": data.ensemble.score,
    }
    assert headline(replace(data, ensemble=None, champion="0"))["test/accuracy"] == (
        first.test.score
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


def test_the_table_has_a_line_for_each_model() -> None:
    data = example_report()
    lines = render_table(data).splitlines()
    assert lines[0] == "digits: Yes, the unlabelled images helped."
    for part in data.generations:
        (line,) = [
            one
            for one in lines
            if one.startswith(f"generation {part.generation} ") and "against" not in one
        ]
        assert f"{100 * part.test.score:.1f} %" in line
        assert ("*" in line) == (part.generation == data.champion)
    assert any(line.startswith("ensemble ") for line in lines)
    assert any(line.startswith("LabelSpreading  93.5 %") for line in lines)
    assert "…" not in "".join(lines)


def test_the_table_takes_no_markup_from_names() -> None:
    data = replace(example_report(skills=(5.0, 6.0)), dataset="[red]x[/red]\x1b[31m")
    text = render_table(data)
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
    assert "\x1b[" in render_table(data, color=True)


def test_the_terminal_names_findings_and_labels_to_look_at() -> None:
    data = example_report(skills=(5.0, 6.0))
    first, second = data.generations
    issue = LabelIssue("a", "3", "8", 0.1, 0.8, 0.7)
    warned = replace(second, findings=("generation 1 has no owls",))
    text = render_table(replace(data, generations=(first, warned), label_issues=(issue,)))
    assert "guard: generation 1 has no owls\n" in text
    assert "1 labelled image" in text
    assert "guard: " not in render_table(data)
    assert "label_issues" not in render_table(data)
