"""Finished runs are found again by what they were made of, and intervals are Student's."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest

from benchmarks import runs
from benchmarks.runs import kept, parts_kept, spread


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


def test_a_stopped_run_goes_on_at_its_next_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "KEPT", tmp_path / "kept")
    benchmark = tmp_path / "benchmark.py"
    benchmark.write_text("code")
    trained: list[str] = []

    def run(stop_at: str) -> list[float]:
        part = parts_kept(benchmark, "0", {"seed": 0})

        def train(name: str) -> float:
            if name == stop_at:
                raise KeyboardInterrupt
            trained.append(name)
            return float(len(trained))

        return [part(name, partial(train, name)) for name in ("none", "offered 48", "random 48")]

    with pytest.raises(KeyboardInterrupt):
        run("random 48")
    assert run("never") == [1.0, 2.0, 3.0]
    assert trained == ["none", "offered 48", "random 48"]


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
