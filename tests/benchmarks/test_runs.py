"""Finished runs are found again, figures compared round by round, tables put on pages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks import runs
from benchmarks.runs import Row, compare, keep, kept, put_table, spread, table
from pipeline.files import read_json


def test_a_run_is_done_once_for_the_same_parameters_and_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "KEPT", tmp_path / "kept")
    benchmark = tmp_path / "benchmark.py"
    benchmark.write_text("first")
    done: list[int] = []

    def work() -> dict[str, int]:
        done.append(len(done))
        return {"run": len(done)}

    assert kept(benchmark, "0", {"seed": 0}, work) == {"run": 1}
    assert kept(benchmark, "0", {"seed": 0}, work) == {"run": 1}
    assert kept(benchmark, "0", {"seed": 1}, work) == {"run": 2}
    benchmark.write_text("second")
    assert kept(benchmark, "0", {"seed": 0}, work) == {"run": 3}
    assert len(done) == 3


def test_intervals_are_students() -> None:
    assert spread([1.0, 2.0, 3.0]) == "2.0 ± 2.5"  # 4.303 / √3
    assert spread([1.0, 2.0, 3.0], "+") == "+2.0 ± 2.5"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells children")
def test_runs_side_by_side_end_with_who_started_them(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, time\n"
        "from benchmarks.runs import side_by_side\n"
        "if __name__ == '__main__':\n"
        "    pool = side_by_side(1)\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    pool.submit(time.sleep, 600).result()\n"
    )
    environment = os.environ | {"PYTHONPATH": str(runs.ROOT)}
    with subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        gone, alive = psutil.wait_procs([worker], timeout=60)
        for process in alive:
            process.kill()
    assert gone


def test_measures_are_asked_in_turn_and_the_ratio_is_of_the_same_round() -> None:
    # A slow machine in the second round halves both; the median of the ratios does not see it.
    ours, theirs = iter([90.0, 45.0, 80.0]), iter([100.0, 50.0, 100.0])
    asked: list[str] = []

    def asks(name: str) -> float:
        asked.append(name)
        return next(ours if name == "a" else theirs)

    row = compare("x", "images/s", lambda: asks("a"), lambda: asks("b"), rounds=3)
    assert asked == ["a", "b", "b", "a", "a", "b"]
    assert (row.ours, row.reference, row.ratio) == (80, 100, 0.9)
    assert (row.met, row.bar) == (None, "")


@pytest.mark.parametrize(
    ("row", "bar"),
    [
        (Row("a", "s", 3.0, at_most=3.0), "≤ 3"),
        (Row("a", "s", 3.1, at_most=3.0), "≤ 3: missed"),
        (Row("a", "images/s", 500, 400, 1.25, at_least=1.2), "≥ 1.2"),
        (Row("a", "images/s", 500, 400, 1.25, at_least=1.3), "≥ 1.3: missed"),
    ],
)
def test_a_bar_is_on_the_ratio_or_on_the_figure_alone(row: Row, bar: str) -> None:
    assert row.bar == bar
    assert row.met is not bar.endswith("missed")


def test_results_that_are_kept_are_shown_on_the_page_and_a_missing_place_is_an_error(
    tmp_path: Path,
) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- results of speed -->\n<!-- end -->\n\nWords.\n")
    rows = [Row("all", "images/s", 1234.5, 1000, 1.2345, at_least=1.5), Row("start", "s", 3.25)]
    keep("speed", rows, rounds=3, threads=1, page=page, results=tmp_path)
    text = page.read_text()
    assert "| all, images/s | 1,234 | 1,000 | 1.23 | ≥ 1.5: missed |" in text
    assert "| start, s | 3.25 |  |  |  |" in text
    assert "3 rounds; 1 thread;" in text
    assert text.endswith("<!-- end -->\n\nWords.\n")
    put_table(page, "speed", table(read_json(tmp_path / "speed.json")))
    assert page.read_text() == text
    with pytest.raises(ValueError, match="no place for the results of other"):
        put_table(page, "other", "")


@pytest.mark.parametrize("bench", ["pseudo_label", "train"])
def test_the_page_in_docs_shows_the_results_that_are_kept(bench: str, tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    shutil.copy(runs.PAGE, page)
    put_table(page, bench, table(read_json(runs.RESULTS / f"{bench}.json")))
    assert page.read_text(encoding="utf-8") == runs.PAGE.read_text(encoding="utf-8")
