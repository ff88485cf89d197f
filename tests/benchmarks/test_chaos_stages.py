"""Every stage killed at fixed file operations leaves what an uninterrupted run leaves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.chaos.boundaries import Clean, chosen, clean_runs, everywhere, kill_once
from benchmarks.chaos.disk import fill_once, refusals
from benchmarks.chaos.kept import Journal
from benchmarks.chaos.left import differences, lost_or_doubled
from benchmarks.chaos.page import reliability_page
from benchmarks.chaos.stages import Bench, Step, copy_code, forking, make_project, steps
from benchmarks.chaos.traced import build, compiler

compiled = pytest.mark.skipif(compiler() is None, reason="needs a C compiler")
TITLES = [step.title for step in steps(sys.executable)]


def test_the_stages_are_those_of_dvc_yaml_in_its_order() -> None:
    first, *_, last = steps("python")
    assert first.command == ["python", "-m", "stages.scan"]
    assert first.outputs == ["source.json"]
    assert last == Step("report", ["python", "-m", "stages.report"], ["report/index.html"])
    assert "pseudo_label@1" in TITLES
    assert len(TITLES) == 13


def test_points_are_all_or_every_nth_and_the_last() -> None:
    assert chosen(3, 1) == [1, 2, 3]
    assert chosen(8, 3) == [1, 4, 7, 8]


def test_differences_name_what_is_missing_left_over_or_changed() -> None:
    found = differences({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"})
    assert found == ["b: other bytes", "c: missing", "d: left over"]


def test_images_that_are_missing_or_there_too_often_are_counted() -> None:
    expected = {"a: x": 1, "a: y": 2, "b: x": 1, "b: z": 1}
    found = {"a: x": 1, "a: y": 3, "b: x": 1, "a: w": 2}
    assert lost_or_doubled(expected, expected) == []
    assert lost_or_doubled(expected, found) == ["b: 1 images lost", "a: 3 images doubled"]


def test_the_page_counts_faults_and_what_they_cost() -> None:
    row = {"stage": "s", "operations": 5, "kills": 5, "full": 2, "problems": []}
    where = "s killed after 1, create a"
    ends = ("b: missing", "c: 2 runs", "prepared/test: 3 images lost", "p: 1 images doubled")
    problems = [f"{where}: {end}" for end in ends]
    moments = {"signal": "SIGKILL", "kills": 30, "runs": 2, "locks": 1, "problems": []}
    result = {"boundaries": [row, row | {"problems": problems}], "moments": [moments]}
    page = reliability_page(result | {"machine": "here"})
    assert "Killed after each of 10 operations." in page
    assert "| `s` | 5 | 5 | 5 | 2 | 2 |" in page
    assert "| `s` | 5 | 5 | 4 | 2 | 2 |" in page
    assert "| SIGKILL | 30 | 2 | 2 | 1 |" in page
    assert "| 44 | 43 | 3 | 1 | 1 | 1 |" in page
    assert f"What was wrong:\n\n- {where}: b: missing\n" in page
    part = {"boundaries": [row | {"kills": 3}], "moments": [moments | {"runs": 0, "kills": 0}]}
    page = reliability_page(part | {"machine": "here"})
    assert "Killed so far after 3 of 5 operations." in page
    assert "SIGKILL |" not in page
    assert "wrong" not in page


def test_what_was_tried_is_kept_up_to_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "faults.jsonl"
    assert Journal(path).rows == []
    Journal(path).add({"point": 1})
    with path.open("a") as file:
        file.write('{"point": 2')
    journal = Journal(path)
    journal.add({"point": 3})
    assert journal.rows == Journal(path).rows == [{"point": 1}, {"point": 3}]


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
def fast(bench: Bench) -> Iterator[Bench]:
    """The stages run in forks."""
    with forking(bench, 1) as forks:
        yield forks


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
def test_two_kills_change_nothing(fast: Bench, uninterrupted: dict[str, Clean], title: str) -> None:
    clean = uninterrupted[title]
    for point in fixed_points(clean.operations):
        fault = kill_once(clean, fast, point)
        assert (fault.happened, fault.problems) == (True, [])


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
    fast: Bench, uninterrupted: dict[str, Clean]
) -> None:
    clean = uninterrupted["select@1"]
    for point in fixed_points(clean.operations):
        assert fill_once(clean, fast, point).problems == []


@compiled
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stage_that_is_not_resumed_as_it_was_is_found_out(bench: Bench, tmp_path: Path) -> None:
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
        {},
        ["create log.txt", "close log.txt", "create out.txt", "close out.txt"],
    )
    faults = list(everywhere(kill_once, clean, bench, [1, 2, 3, 4]))
    assert [fault.happened for fault in faults] == [True] * 4
    assert all("log.txt: other bytes" in " ".join(fault.problems) for fault in faults)
