"""The costs of a large run: arithmetic that can be done by hand, and a page that is up to date."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.runs import ROOT
from benchmarks.scale import NODES, RATES, renewed, steps_of, total_seconds

VALUES = {name: rate.value for name, rate in RATES.items()}


def test_the_page_holds_what_the_rates_come_to() -> None:
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert renewed(page, NODES, RATES) == page


def test_a_step_takes_what_its_slowest_need_takes() -> None:
    easy = VALUES | {
        "unlabeled": 1000.0,
        "gpus": 2.0,
        "predict_rate": 10.0,
        "cores": 1.0,
        "decode_seconds": 0.01,
        "image_bytes": 5.0,
        "node_read": 50.0,
        "storage_read": 150.0,
    }
    steps = {step.name: step for step in steps_of(1, easy)}
    assert steps["predict"].needs == pytest.approx({"GPUs": 50, "decoding": 10, "reading": 100})
    assert (steps["predict"].seconds, steps["predict"].limit) == (100, "reading")
    four = {step.name: step for step in steps_of(4, easy)}
    assert four["predict"].needs["reading"] == pytest.approx(1000 * 5 / 150)  # all that storage has
    assert four["predict"].needs["GPUs"] == pytest.approx(50 / 4)


def test_nodes_help_all_but_the_preparing_and_generations_add_up() -> None:
    one, two = steps_of(1, VALUES), steps_of(2, VALUES)
    assert one[0].seconds == two[0].seconds
    assert all(b.seconds < a.seconds for a, b in zip(one[1:], two[1:], strict=True))
    first = sum(step.seconds for step in one)
    again = total_seconds(one, 2) - total_seconds(one, 1)
    assert total_seconds(one, 1) == pytest.approx(first)
    assert again == pytest.approx(sum(step.seconds for step in one[2:]))


def test_a_rate_that_is_none_is_refused_with_those_there_are() -> None:
    command = [sys.executable, "-m", "benchmarks.scale", "--set", "gpu=4"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.returncode == 2
    assert "no rate is named 'gpu'" in ran.stderr
