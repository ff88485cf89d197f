"""The costs of a large run: arithmetic that can be done by hand, and a page that is up to date."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.runs import ROOT
from benchmarks.scale import NODES, RATES, steps_of, time_table, total_seconds


def test_the_page_holds_what_the_rates_come_to() -> None:
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert time_table(NODES, RATES) in page
    assert all(f"| `{name}` |" in page for name in RATES)


def test_a_step_takes_what_its_slowest_need_takes() -> None:
    easy = RATES | {"unlabeled": 1000, "gpus": 2, "predict_rate": 10, "cores": 1}
    easy |= {"decode_seconds": 0.01, "image_bytes": 5, "node_read": 50, "storage_read": 150}
    assert steps_of(1, easy)["predict"] == pytest.approx(
        {"GPUs": 50, "decoding": 10, "reading": 100}
    )
    four = steps_of(4, easy)["predict"]
    assert four["reading"] == pytest.approx(1000 * 5 / 150)  # all that storage has
    assert four["GPUs"] == pytest.approx(50 / 4)
    assert "1.7 min (reading)" in time_table([1], easy)


def test_nodes_help_all_but_the_preparing_and_generations_add_up() -> None:
    one, two = ([max(s.values()) for s in steps_of(n, RATES).values()] for n in (1, 2))
    assert one[0] == two[0]
    assert all(b < a for a, b in zip(one[1:], two[1:], strict=True))
    whole = [total_seconds(steps_of(1, RATES), generations) for generations in (1, 2)]
    assert whole[0] == pytest.approx(sum(one))
    assert whole[1] - whole[0] == pytest.approx(sum(one[2:]))


def test_a_rate_that_is_none_is_refused_with_those_there_are() -> None:
    command = [sys.executable, "-m", "benchmarks.scale", "--set", "gpu=4"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.returncode == 2
    assert "no rate is named 'gpu'" in ran.stderr
