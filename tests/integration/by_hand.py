"""Stages run by hand in a folder with small parameters, to be killed or asked to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.runs import ROOT

END_SECONDS = 60.0


def start(stage: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a stage in `folder`, with a process group of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for name in ("DVC_ROOT", "RAY_ADDRESS"):
        environment.pop(name, None)
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(stage: str, folder: Path, *arguments: str) -> str:
    """Run a stage to its end; what it said."""
    process = start(stage, folder, *arguments)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return said


def logged_steps(folder: Path) -> list[int]:
    """The steps of which the training of the teacher in `folder` has logged something."""
    lines = [
        line
        for path in folder.glob(".selftrain/scratch/train_teacher-*/history.jsonl")
        for line in path.read_text().splitlines(keepends=True)
    ]
    return [json.loads(line)["step"] for line in lines if line.endswith("\n")]


def wait_until(seen: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Return when `seen` is true; fails where the process ends before."""
    while not seen():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def descendants(process: subprocess.Popen[str], title: str = "") -> list[psutil.Process]:
    """The living processes below `process` whose command line has `title` in it."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if title in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def left_of(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that are still there after END_SECONDS."""
    left: list[psutil.Process] = psutil.wait_procs(processes, timeout=END_SECONDS)[1]
    return left
