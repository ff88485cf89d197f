"""Two `dvc repro` at once in one folder, and a stage by hand beside them: the later is refused."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from benchmarks.small_run import start_repro
from tests.integration.project import SMALL, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def is_held(lock: Path) -> bool:
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def test_the_second_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project", SMALL)
    first = start_repro(project.folder, "prepare")
    lock = project.folder / ".selftrain/locks/prepare.lock"
    while not is_held(lock):
        assert first.poll() is None
    os.killpg(first.pid, signal.SIGSTOP)  # while it runs the stage
    try:
        second = project.run("dvc", "repro", "prepare", check=False)
        by_hand = project.run(sys.executable, "-m", "stages.prepare", check=False)
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    assert second.returncode == 255
    assert f"is busy, it is being blocked by:\n  (PID {first.pid})" in second.stderr
    assert by_hand.returncode == 1
    assert by_hand.stderr.count("\n") == 1
    assert "another process runs prepare in this folder" in by_hand.stderr
    assert first.wait(300) == 0
    assert project.json("metrics/prepare.json")["labeled"] == 70
    assert project.repro("prepare") == []
