"""Every stage killed at fixed file operations leaves what an uninterrupted run leaves."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import file_operations
from benchmarks.chaos import (
    Clean,
    Outcome,
    clean_runs,
    differences,
    points,
    run_step,
    table,
    try_fault,
    wrong_end,
)
from benchmarks.runs import ROOT
from benchmarks.small_run import Step, make_project, steps

TITLES = [step.title for step in steps()]
PROGRAM = """
import os, shutil, sys
from pathlib import Path
folder = Path("out"); folder.mkdir(); folder.mkdir(exist_ok=True)
(folder / "a.txt").write_text("a")
(folder / "a.txt").read_text()
os.replace(folder / "a.txt", folder / "b.txt")
os.link(folder / "b.txt", folder / "c.txt")
(folder / "held.lock").touch()
(folder / "none").unlink(missing_ok=True)
Path("../beside.txt").write_text("no part of it")
shutil.rmtree(folder)
Path("end.txt").write_text(sys.argv[1])
"""
SEEN = ["create out", "create out/a.txt", "rename out/b.txt", "create out/c.txt"]
LAST = ["remove out", "create end.txt"]


def run(folder: Path, kill: int = 0, full: int = 0) -> tuple[int, list[str], list[str]]:
    """Exit code and operations of the program in `folder`, and the files that it leaves."""
    code = folder.with_name("code")
    code.mkdir(exist_ok=True)
    folder.mkdir()
    (code / "program.py").write_text(PROGRAM)
    log = folder.with_name("log")
    log.write_text("")
    runner = Path(file_operations.__file__)
    command: list[str | Path] = [
        sys.executable,
        "-P",
        runner,
        log,
        str(kill),
        str(full),
        "program",
        "said",
    ]
    ended = subprocess.run(
        command,
        cwd=folder,
        env={"PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1"},
        start_new_session=True,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return ended.returncode, log.read_text().splitlines(), left


def test_every_operation_below_the_folder_is_seen_in_order(tmp_path: Path) -> None:
    code, operations, left = run(tmp_path / "root")
    assert (code, left) == (0, ["end.txt"])
    assert operations[:4] == SEEN
    assert operations[-2:] == LAST
    assert sorted(operations[4:-2]) == ["remove out/b.txt", "remove out/c.txt"]


@pytest.mark.parametrize(
    ("point", "left"),
    [
        (2, ["out/a.txt"]),
        (3, ["out/a.txt"]),
        (4, ["out/b.txt"]),
        (8, ["end.txt"]),
        (9, ["end.txt"]),
    ],
)
def test_it_is_killed_at_the_operation_of_that_number(
    tmp_path: Path, point: int, left: list[str]
) -> None:
    code, operations, found = run(tmp_path / "root", kill=point)
    assert code == -signal.SIGKILL
    assert len(operations) == min(point, 8)
    assert found == left
    if point == 2:
        assert (tmp_path / "root/out/a.txt").read_text() == ""


def test_from_an_operation_on_the_disk_is_full(tmp_path: Path) -> None:
    code, operations, left = run(tmp_path / "root", full=4)
    assert code == 1
    assert operations == SEEN
    assert left == ["out/b.txt"]


def test_the_stages_are_those_of_dvc_yaml_in_its_order() -> None:
    first, *_, last = steps()
    assert first == Step("scan", ["stages.scan"], ["source.json", "program.json"])
    assert last == Step("report", ["stages.report"], ["report/index.html"])
    assert "pseudo_label@1" in TITLES
    assert len(TITLES) == 13


def test_points_are_all_or_every_nth_and_the_last() -> None:
    assert points(3, 1, "kill") == [1, 2, 3, 4]
    assert points(8, 3, "full") == [1, 4, 7, 8]


def test_differences_name_what_is_missing_left_over_or_changed() -> None:
    found = differences({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"})
    assert found == ["b: other bytes", "c: missing", "d: left over"]


def test_a_kill_has_to_kill_and_a_full_disk_to_be_said_in_words() -> None:
    said = "select: a.json: No space left on device; make space"
    assert wrong_end("kill", Outcome(-9, "", [])) == []
    assert len(wrong_end("kill", Outcome(0, "", []))) == 1
    assert wrong_end("full", Outcome(0, "", [])) == wrong_end("full", Outcome(1, said, [])) == []
    assert len(wrong_end("full", Outcome(1, "select: broken", []))) == 1
    assert len(wrong_end("full", Outcome(1, f"Traceback … {said}", []))) == 1


def test_the_table_counts_faults_and_names_what_was_wrong() -> None:
    row = {"stage": "s", "operations": 5, "kill": 6, "kill survived": 5, "full": 2}
    row |= {"full survived": 2, "problems": ["s, kill at 1, create a: b: missing"]}
    moments = {"kills": 30, "problems": []}
    text = table({"operations": [row, row], "moments": moments, "machine": "here"})
    assert "| `s` | 5 | 6 | 5 | 2 | 2 |" in text
    assert "| together | 10 | 12 | 10 | 4 | 4 |" in text
    assert "killed 30 times at random moments" in text
    assert "What was wrong:\n\n- s, kill at 1, create a: b: missing\n" in text
    right = row | {"problems": []}
    text = table({"operations": [right], "moments": moments | {"kills": 0}, "machine": "here"})
    assert "wrong" not in text
    assert "random" not in text


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Clean]:
    """The uninterrupted runs of all stages, by title."""
    folder = tmp_path_factory.mktemp("chaos") / "project"
    make_project(folder)
    return {clean.step.title: clean for clean in clean_runs(folder, ROOT, steps())}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("title", TITLES)
def test_two_kills_change_nothing(uninterrupted: dict[str, Clean], title: str) -> None:
    clean = uninterrupted[title]
    for point in fixed_points(clean.operations):
        assert try_fault(clean, ROOT, "kill", point) == []


def fixed_points(operations: list[str]) -> list[int]:
    """In the middle of writing the first output, and right before the last has its name."""
    numbered = list(enumerate(operations, 1))
    outputs = [(n, line) for n, line in numbered if " .selftrain/" not in line]
    first = next(n for n, line in outputs if line.startswith("create ") and "partial" in line)
    last = max(n for n, line in outputs if line.startswith("rename "))
    return [first, last]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_full_disk_is_told_and_a_rerun_finishes(uninterrupted: dict[str, Clean]) -> None:
    clean = uninterrupted["select@1"]
    for point in fixed_points(clean.operations):
        assert try_fault(clean, ROOT, "full", point) == []


@pytest.mark.slow
def test_a_stage_that_is_not_resumed_as_it_was_is_found_out(tmp_path: Path) -> None:
    code, folder = tmp_path / "code", tmp_path / "project"
    (code / "benchmarks").mkdir(parents=True)
    shutil.copy(file_operations.__file__, code / "benchmarks")
    (code / "worse.py").write_text(
        "from pathlib import Path\n"
        "log = Path('log.txt')\n"
        "log.write_text((log.read_text() if log.exists() else '') + 'line')\n"
        "Path('out.txt').write_text(log.read_text())\n"
    )
    folder.mkdir()
    (clean,) = clean_runs(folder, code, [Step("worse", ["worse"], ["out.txt"])])
    assert clean.operations == ["create log.txt", "create out.txt"]
    assert try_fault(clean, code, "kill", 1) == []
    assert "log.txt: other bytes" in " ".join(try_fault(clean, code, "kill", 2))
    assert run_step(clean.step, folder, code).code == 0
