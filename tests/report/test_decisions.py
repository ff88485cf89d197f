"""What a report advises follows from its figures, in at most three lines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.report.data import ReportData
from pipeline.report.decisions import decisions
from pipeline.report.page import render_report
from pipeline.report.summary import render_note, render_table
from pipeline.tasks.significance import UNSHOWN
from tests.report.example import example_report, with_control


def advised(data: ReportData, words: str) -> bool:
    return any(words in advice for advice in decisions(data))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (example_report(skills=(5.0, 7.0)), "Ship generation 1: selftrain export"),
        (example_report(skills=(7.0, 5.0)), "Ship generation 0, which did better"),
        (
            with_control(example_report(skills=(5.0, 7.2)), 9.0),
            "selftrain export --model models/0.longer",
        ),
    ],
)
def test_what_did_better_is_to_be_shipped(data: ReportData, words: str) -> None:
    assert words in decisions(data)[0]


def test_nothing_is_to_be_shipped_where_nothing_is_shown() -> None:
    assert not advised(example_report(skills=(7.0, 7.02)), "Ship")


def test_a_gain_that_too_few_test_images_show_asks_for_more_of_them() -> None:
    data = example_report(skills=(7.0, 7.02))
    first, last = data.generations
    assert last.against_first is not None
    torn = replace(last.against_first, low=0.01, high=0.1, verdict=UNSHOWN)
    assert advised(
        replace(data, generations=(first, replace(last, against_first=torn))),
        "more labelled images",
    )
    assert not advised(data, "more labelled images")


def test_the_weakest_classes_come_first_with_their_accuracy() -> None:
    data = example_report(skills=(5.0, 7.0))
    test = replace(data.generations[1].test, per_class=(0.5, 0.25, 0.99, *[1.0] * 7))
    data = replace(data, generations=(data.generations[0], replace(data.generations[1], test=test)))
    first, second = data.classes[:2]
    assert advised(data, f"the weakest classes: {second} (25 % right), {first} (50 % right)")
    perfect = replace(test, per_class=(1.0,) * len(data.classes))
    data = replace(
        data, generations=(data.generations[0], replace(data.generations[1], test=perfect))
    )
    assert not advised(data, "Label more images")


def test_a_last_generation_that_is_not_better_is_the_last() -> None:
    assert advised(example_report(skills=(5.0, 7.0, 7.0)), "Add no generation: generation 2")
    assert not advised(example_report(skills=(5.0, 6.0, 7.5)), "Add no generation")


def test_a_generation_that_is_clearly_worse_is_worth_a_look() -> None:
    assert advised(example_report(skills=(7.0, 5.0, 7.0)), "Generation 1 is clearly worse than its")
    assert not advised(example_report(skills=(5.0, 6.0, 7.5)), "clearly worse")


def test_strangers_are_worth_a_look_where_they_are_many() -> None:
    data = example_report(skills=(5.0, 7.0))
    last = data.generations[-1]
    for strangers, many in ((180, True), (18, False), (None, False)):
        assert last.pseudo_labels is not None
        audit = replace(last.pseudo_labels, reasons={"kept": 900}, strangers=strangers)
        last = replace(last, pseudo_labels=audit)
        data = replace(data, generations=(data.generations[0], last))
        assert advised(data, "show none of the classes") == many


def test_photographs_from_scratch_are_told_of_weights() -> None:
    data = example_report(skills=(5.0, 7.0))
    assert advised(replace(data, from_scratch=True), "start from pretrained weights")
    assert not advised(data, "pretrained")


def test_every_view_of_the_report_has_at_most_three() -> None:
    data = replace(example_report(skills=(5.0, 7.0, 7.0)), from_scratch=True)
    advice = decisions(data)
    assert len(advice) == 3
    assert render_table(data, width=400).count("next: ") == 3
    assert render_note(data).count("- Next: ") == 3
    assert render_report(data).count("<li>") >= 3
    assert "What to do next" in render_report(data)
