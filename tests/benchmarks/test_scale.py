"""The costs of a large run: arithmetic that can be done by hand, and a page that is up to date."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.runs import ROOT
from benchmarks.scale import (
    NODES,
    RATES,
    spent,
    steps_of,
    storage_euro,
    stored_bytes,
    time_table,
    whole_run,
)


def test_the_page_holds_what_the_rates_come_to() -> None:
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert time_table(NODES, RATES) in page
    assert all(f"| `{name}` |" in page for name in RATES)
    assert f"{storage_euro(RATES):,.0f} euro" in page


def test_a_pass_takes_what_its_slowest_need_takes() -> None:
    easy = RATES | {"labeled": 0, "unlabeled": 1000, "gpus": 2, "predict_rate": 10, "cores": 1}
    easy |= {"decode_seconds": 0.01, "image_bytes": 5, "node_read": 50, "storage_read": 150}
    easy |= {"shard_rows": 100, "task_seconds": 0.5}
    (predict,) = steps_of(1, easy)["predict"]
    assert predict == pytest.approx({"GPUs": 50, "decoding": 10, "reading": 100, "one thread": 5})
    (four,) = steps_of(4, easy)["predict"]
    assert four["reading"] == pytest.approx(1000 * 5 / 150)  # all that storage has
    assert four["GPUs"] == pytest.approx(50 / 4)
    assert four["one thread"] == predict["one thread"]
    (few,) = steps_of(1, easy | {"worker_tasks": 2})["predict"]
    assert few["one thread"] == pytest.approx(2)  # several shards a task
    assert "1.7 min (reading)" in time_table([1], easy)


def test_passes_of_a_step_follow_each_other_and_generations_add_up() -> None:
    assert spent([{"GPUs": 3, "cores": 2}, {"cores": 5}, {"GPUs": 1}]) == {"GPUs": 4, "cores": 5}
    steps = steps_of(1, RATES)
    once, twice = (whole_run(steps, generations).total() for generations in (1, 2))
    assert once == pytest.approx(sum(spent(passes).total() for passes in steps.values()))
    again = sum(spent(steps[name]).total() for name in ("predict", "select", "student"))
    assert twice - once == pytest.approx(again)


def test_a_run_costs_its_node_hours_and_what_lies_in_storage() -> None:
    easy = RATES | {"labeled": 0, "unlabeled": 1e6, "source_bytes": 3e6, "image_bytes": 1e6}
    easy |= {"node_euro": 2, "terabyte_euro": 5, "months": 3}
    assert stored_bytes(easy) == pytest.approx(4e12)
    assert storage_euro(easy) == pytest.approx(60)
    row = time_table([4], easy).splitlines()[-1].split(" | ")
    assert float(row[-1].strip("| ").replace(",", "")) == pytest.approx(
        whole_run(steps_of(4, easy), easy["generations"]).total() / 3600 * 4 * 2, abs=0.5
    )


def test_all_that_nodes_share_takes_less_with_more_of_them() -> None:
    one, two = (
        {
            name: [max(needs.values()) for needs in passes]
            for name, passes in steps_of(n, RATES).items()
        }
        for n in (1, 2)
    )
    assert all(sum(two[name]) < sum(one[name]) for name in one if name not in ("select", "report"))
    assert two["select"][1] == one["select"][1]  # the cuts, by one thread


def test_a_rate_that_is_none_is_refused_with_those_there_are() -> None:
    command = [sys.executable, "-m", "benchmarks.scale", "--set", "gpu=4"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.returncode == 2
    assert "no rate is named 'gpu'" in ran.stderr
