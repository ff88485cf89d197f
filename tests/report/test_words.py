import re
from dataclasses import replace

import pytest

from pipeline.evaluate.baseline import Baseline
from pipeline.report.page import render_report
from pipeline.report.summary import render_note, render_table
from pipeline.report.words import (
    answer,
    body_sentences,
    change,
    p_value,
    percent,
    points,
    validation_note,
)
from tests.report.example import example_report, with_control, with_heads


@pytest.mark.parametrize(
    ("skills", "short"),
    [
        ((5.0, 7.0), "Yes, the unlabelled images helped."),
        ((7.0, 5.0), "No, they made the model worse."),
        ((7.0, 7.02), "Not shown: no difference beyond chance."),
        ((5.0,), "Nothing to compare yet."),
    ],
)
def test_the_answer_follows_the_paired_test(skills: tuple[float, ...], short: str) -> None:
    assert answer(example_report(skills=skills)).short == short


def test_a_gain_counts_only_beside_as_many_steps_on_the_labels_alone() -> None:
    data = example_report(skills=(5.0, 7.2))
    beaten, level = with_control(data, 6.0), with_control(data, 7.2, steps=2000)
    assert answer(beaten).short == "Yes, the unlabelled images helped."
    assert answer(level).short.startswith("Not shown: the labels alone, trained for longer")
    assert answer(with_control(data, 9.0)).short.startswith("No: the labels alone")
    said = answer(beaten).sentences[1]
    assert "2,300 steps (as many as all generations together)" in said
    assert f"the champion against that: {change(beaten.controls[0].champion)}." in said
    assert "2,000 steps (all generations together have 2,300)" in answer(level).sentences[1]
    accuracy = percent(beaten.controls[0].result.test.score)
    assert f"labels alone, 2,300 steps  {accuracy}" in render_table(beaten)
    assert "Labels alone, 2,300 steps</th>" in render_report(beaten)
    assert "Labels alone" not in render_report(data)


def test_a_champion_that_saw_labels_alone_is_said_so() -> None:
    data = replace(example_report(skills=(7.0, 5.0)), champion="0")
    verdict = answer(data)
    assert verdict.short == "Not chosen."
    assert "chosen over the students" in verdict.sentences[0]
    assert "Generation 1 is right on" in verdict.sentences[1]


def test_a_sentence_names_gain_interval_and_counts() -> None:
    data = example_report(skills=(5.0, 7.0))
    test = data.generations[1].against_first
    assert test is not None
    sentence = answer(data).sentences[0]
    assert f"{100 * test.difference:+.1f} points" in sentence
    assert f"({100 * test.low:.1f} to {100 * test.high:.1f})" in sentence
    assert f"It gained {test.gained} of them and lost {test.lost}." in sentence


def test_a_baseline_that_did_not_run_gives_its_reason() -> None:
    data = replace(
        example_report(skills=(5.0, 6.0)),
        baseline=Baseline("LabelSpreading", None, None, None, "too many images"),
    )
    assert answer(data).sentences[-1].endswith("for comparison: too many images.")
    assert "\nLabelSpreading" not in render_table(data)


def test_figures_in_words() -> None:
    assert percent(0.9812) == "98.1 %"
    assert percent(None) == "–"
    assert points(-0.004) == "−0.4 points"
    assert (p_value(0.2), p_value(0.0312), p_value(0.0021), p_value(1e-9)) == (
        "p = 0.20",
        "p = 0.03",
        "p = 0.0021",
        "p < 0.0001",
    )


def test_what_one_of_two_tests_shows_is_not_called_chance() -> None:
    data = example_report(skills=(7.0, 7.02))
    first, last = data.generations
    assert last.against_first is not None
    torn = replace(last.against_first, low=0.01, high=0.1, verdict="no difference shown")
    data = replace(data, generations=(first, replace(last, against_first=torn)))
    assert answer(data).short == "Not shown: too few test images to be sure."


def test_heads_and_networks_are_judged_in_words_of_their_own() -> None:
    data = with_heads(with_control(example_report(), 9.0))
    note = validation_note(data)
    assert "each predicted by one that had not seen it" in note
    assert "Fine-tuned networks are judged on the test images alone" in note
    assert body_sentences(data)[0].startswith("Generations 0, 1: a classifier on features of timm")
    assert body_sentences(example_report()) == []
    said = " ".join(answer(data).sentences)
    assert "trained as students are for 2,300 steps" in said
    assert (
        "a network fine-tuned on the other labels has 38 right, a classifier on features 36" in said
    )
    assert "logistic regression on features, reaches 82.0 % (74.0 to 89.0 %)" in said
    assert "LabelSpreading" not in said + render_table(data) + render_note(data)
    assert re.search(r"\nlogistic regression .*82\.0 %", render_table(data))
    assert "…" not in render_table(data)
    assert "| logistic regression on features | 82.0 %" in render_note(data)


def test_a_control_that_did_better_on_test_can_be_shipped_by_hand() -> None:
    data = example_report()
    ahead, behind = with_control(data, 9.0), with_control(data, 5.0)
    command = "selftrain export --model models/0.longer"
    assert command in " ".join(answer(ahead).sentences)
    assert command not in " ".join(answer(behind).sentences)
    assert "no gain shown" in answer(with_control(data, 7.2)).sentences[1]
