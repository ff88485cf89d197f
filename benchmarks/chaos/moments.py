"""Kill `dvc repro` at random moments until it has come to its end, and compare what it leaves."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.chaos.boundaries import differences
from benchmarks.chaos.stages import contents, write_parameters
from benchmarks.chaos.traced import inherited
from benchmarks.chaos.tracked import logged_in_mlflow
from benchmarks.repository import copy_repository
from pipeline.progress import say

LONGEST_SECONDS = 40.0
END_SECONDS = 60.0
SENDING_SECONDS = 300.0


@dataclass
class Moments:
    """What came of it; `runs`: how often the pipeline came to its end; problems: a line each."""

    kills: int
    runs: int
    problems: list[str]


def small_repository(folder: Path) -> None:
    """A copy of this repository in `folder`, with the small parameters."""
    copy_repository(folder)
    write_parameters(folder)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)


def start_repro(folder: Path) -> subprocess.Popen[bytes]:
    """`dvc repro` in `folder`, with a process group of its own."""
    binaries = Path(sys.executable).parent
    environment = inherited() | {
        "PATH": os.pathsep.join([str(binaries), os.environ["PATH"]]),
        "PYTHONPATH": "",
        "DVC_NO_ANALYTICS": "1",
        "OMP_NUM_THREADS": "1",
    }
    with (folder / ".git" / "said").open("ab") as said:
        return subprocess.Popen(
            [str(binaries / "dvc"), "repro"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the process ends by itself in that time."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def end_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the process's group and wait until nothing of the group is left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    process.wait()
    until = time.monotonic() + END_SECONDS
    while time.monotonic() < until:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise RuntimeError(f"signal {number.name}: the group is still there after {END_SECONDS:.0f} s")


def left_running(folder: Path) -> list[str]:
    """The processes that `dvc repro` in `folder` has started and that are still there."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("DVC_ROOT") == str(folder):
                found.append(" ".join(process.cmdline())[:200])
    return found


def kill_at_random(
    repository: Path, expected: dict[str, str], *, kills: int, seed: int, number: signal.Signals
) -> Moments:
    """Send `number` to `dvc repro` at `kills` random moments, in as many runs as that takes.

    Each run is in a copy of `repository` beside it.
    """
    draws, done, runs, problems = random.Random(seed), 0, 0, list[str]()
    while done < kills:
        runs += 1
        project = repository.with_name(f"{number.name}-{runs}")
        shutil.copytree(repository, project)
        while True:
            process = start_repro(project)
            if done == kills or ends_within(process, draws.uniform(0.5, LONGEST_SECONDS)):
                code = process.wait()
                break
            end_group(process, number)
            done += 1
            say(f"{number.name} {done} of {kills}")
        found = [f"dvc repro ended with {code}"] if code else []
        found += differences(expected, contents(project)) + settled(project)
        problems += [f"{number.name}, run {runs}: {problem}" for problem in found]
        for problem in found:
            say(problem)
    return Moments(done, runs, problems)


def settled(project: Path) -> list[str]:
    """What is wrong with a run that has ended: processes still there, runs or steps doubled."""
    until = time.monotonic() + END_SECONDS
    while (left := left_running(project)) and time.monotonic() < until:
        time.sleep(1)
    return [f"still runs: {line}" for line in left] + logged_in_mlflow(project, SENDING_SECONDS)
