"""Every stage killed at fixed file operations leaves what an uninterrupted run leaves."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.chaos.boundaries import (
    Clean,
    chosen,
    clean_runs,
    differences,
    everywhere,
    kill_once,
)
from benchmarks.chaos.disk import fill_once, refusals
from benchmarks.chaos.page import problem_kind, reliability_page
from benchmarks.chaos.stages import Bench, Step, copy_code, make_project, steps
from benchmarks.chaos.traced import build, compiler

compiled = pytest.mark.skipif(compiler() is None, reason="needs a C compiler")
TITLES = [step.title for step in steps(sys.executable)]


def test_the_stages_are_those_of_dvc_yaml_in_its_order() -> None:
    first, *_, last = steps("python")
    assert first.command == ["python", "-m", "stages.prepare"]
    assert "prepared/labeled" in first.outputs
    assert last == Step("report", ["python", "-m", "stages.report"], ["report/index.html"])
    assert "pseudo_label@1" in TITLES
    assert len(TITLES) == 11


def test_points_are_all_or_every_nth_and_the_last() -> None:
    assert chosen(3, 1) == [1, 2, 3]
    assert chosen(8, 3) == [1, 4, 7, 8]


def test_differences_name_what_is_missing_left_over_or_changed() -> None:
    found = differences({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"})
    assert found == ["b: other bytes", "c: missing", "d: left over"]


def test_the_page_counts_faults_and_what_they_cost() -> None:
    row = {"stage": "s", "operations": 9, "kills": 5, "full": 2, "problems": []}
    problems = ["s killed after 1, create a: b: missing", "s killed after 1, create a: c: 2 runs"]
    moments = {"signal": "SIGKILL", "kills": 30, "runs": 2, "problems": []}
    result = {"boundaries": [row, row | {"problems": problems}], "moments": [moments]}
    page = reliability_page(result | {"every": 2, "minutes": 3, "machine": "here"})
    assert "Killed after every 2nd, and the last." in page
    assert "| `s` | 9 | 5 | 5 | 2 | 2 |" in page
    assert "| `s` | 9 | 5 | 4 | 2 | 2 |" in page
    assert "| 44 | 43 | 1 | 1 | 0 |" in page
    assert problem_kind("x: other bytes") == "bytes"


def test_a_full_disk_is_to_be_said_in_words() -> None:
    assert refusals(0, "") == []
    assert refusals(1, "select: a.json: No space left on device; make space") == []
    assert len(refusals(1, "select: broken")) == 1
    assert len(refusals(1, "Traceback (most recent call last): No space left")) == 1


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("bench")
    copy_code(folder / "code")
    return Bench(folder / "code", build(folder))


@pytest.fixture(scope="module")
def uninterrupted(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Clean]:
    """The uninterrupted runs of all stages, by title."""
    folder = tmp_path_factory.mktemp("chaos") / "project"
    make_project(folder)
    return {clean.step.title: clean for clean in clean_runs(steps(sys.executable), folder, bench)}


@compiled
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("title", TITLES)
def test_two_kills_change_nothing(
    bench: Bench, uninterrupted: dict[str, Clean], title: str
) -> None:
    clean = uninterrupted[title]
    for point in fixed_points(clean.operations):
        assert kill_once(clean, bench, point) == []


def fixed_points(operations: list[str]) -> list[int]:
    """In the middle of writing the first output, and right after the last has its name."""
    numbered = list(enumerate(operations, 1))
    outputs = [(n, line) for n, line in numbered if " .selftrain/" not in line]
    first = next(n for n, line in outputs if line.startswith("create ") and "partial" in line)
    last = max(n for n, line in outputs if line.startswith("rename "))
    return [first, last]


@compiled
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_full_disk_is_told_and_a_rerun_finishes(
    bench: Bench, uninterrupted: dict[str, Clean]
) -> None:
    clean = uninterrupted["select@1"]
    for point in fixed_points(clean.operations):
        assert fill_once(clean, bench, point) == []


@compiled
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stage_that_is_not_resumed_as_it_was_is_found_out(
    bench: Bench, uninterrupted: dict[str, Clean], tmp_path: Path
) -> None:
    code = (
        "from pathlib import Path\n"
        "log = Path('log.txt')\n"
        "log.write_text((log.read_text() if log.exists() else '') + 'line')\n"
        "Path('out.txt').write_text(log.read_text())\n"
    )
    before = tmp_path / "before"
    before.mkdir()
    clean = Clean(
        Step("worse", [sys.executable, "-c", code], ["out.txt"]),
        before,
        {"log.txt": "x", "out.txt": "x"},
        ["create log.txt", "close log.txt", "create out.txt", "close out.txt"],
    )
    tally = everywhere(kill_once, clean, bench)
    assert tally.kills == 4
    assert any("log.txt: other bytes" in problem for problem in tally.problems)
