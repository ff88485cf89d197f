"""Kill `dvc repro` at random moments until it has come to its end, and compare what it leaves."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.chaos.left import contents, differences, images, lost_or_doubled
from benchmarks.chaos.stages import write_parameters
from benchmarks.chaos.traced import inherited
from benchmarks.chaos.tracked import logged_in_mlflow
from benchmarks.repository import copy_repository
from pipeline.progress import say

LONGEST_SECONDS = 40.0
END_SECONDS = 60.0
SENDING_SECONDS = 300.0
LOCK = Path(".dvc/tmp/rwlock")


@dataclass(frozen=True)
class Left:
    """What an uninterrupted run leaves: files by name and digest, how often each image is there."""

    files: dict[str, str]
    images: dict[str, int]


def small_repository(folder: Path) -> None:
    """A copy of this repository in `folder`, with the small parameters."""
    copy_repository(folder)
    write_parameters(folder)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)


def start_repro(folder: Path, *stages: str) -> subprocess.Popen[bytes]:
    """`dvc repro` of all or these stages in `folder`, with a process group of its own."""
    binaries = Path(sys.executable).parent
    environment = inherited() | {
        "PATH": os.pathsep.join([str(binaries), os.environ["PATH"]]),
        "PYTHONPATH": "",
        "DVC_NO_ANALYTICS": "1",
        "OMP_NUM_THREADS": "1",
    }
    with (folder / ".git" / "said").open("ab") as said:
        return subprocess.Popen(
            [str(binaries / "dvc"), "repro", *stages],
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


def uninterrupted(repository: Path) -> Left:
    """What `dvc repro` leaves in a copy of `repository`; RuntimeError where it is not in order."""
    project = repository.with_name("clean")
    shutil.copytree(repository, project)
    if start_repro(project).wait():
        raise RuntimeError((project / ".git/said").read_text(encoding="utf-8"))
    if problems := settled(project):
        raise RuntimeError("; ".join(problems))
    return Left(contents(project), images(project))


@dataclass(frozen=True)
class Moments:
    """How often a run was killed; how often DVC's lock file then had to be removed by hand, as DVC
    says; what was wrong at the end, a line each."""

    kills: int
    locks: int
    problems: list[str]


def kill_at_random(
    repository: Path, expected: Left, *, most: int, seed: str, number: signal.Signals
) -> Moments:
    """Send `number` to `dvc repro` at random moments, at most so often, until it has ended.

    In a copy of `repository` beside it.
    """
    draws, done, locks = random.Random(seed), 0, 0
    with tempfile.TemporaryDirectory(prefix="moments-", dir=repository.parent) as beside:
        project = Path(beside) / "project"
        shutil.copytree(repository, project)
        while True:
            process = start_repro(project)
            if done == most or ends_within(process, draws.uniform(0.5, LONGEST_SECONDS)):
                code = process.wait()
                if code and locks < done and _names_its_lock(project):
                    (project / LOCK).unlink(missing_ok=True)
                    locks += 1
                    continue
                break
            end_group(process, number)
            done += 1
            say(f"{number.name} {done}")
        if code:
            said = (project / ".git" / "said").read_text(encoding="utf-8", errors="replace")
            problems = [f"dvc repro ended with {code}, {' '.join(said.split())[-500:]}"]
        else:
            problems = differences(expected.files, contents(project)) + settled(project)
            problems += lost_or_doubled(expected.images, images(project))
    for problem in problems:
        say(problem)
    return Moments(done, locks, problems)


def _names_its_lock(project: Path) -> bool:
    """Whether `dvc repro` ended because of its lock file.

    DVC writes it in place, and takes a process that has got the number of a killed one for that.
    """
    said = (project / ".git" / "said").read_text(encoding="utf-8", errors="replace")
    return "rwlock" in said.rpartition("ERROR:")[2].lower()


def settled(project: Path) -> list[str]:
    """What is wrong with a run that has ended: processes still there, runs or steps doubled."""
    until = time.monotonic() + END_SECONDS
    while (left := left_running(project)) and time.monotonic() < until:
        time.sleep(1)
    return [f"still runs: {line}" for line in left] + logged_in_mlflow(project, SENDING_SECONDS)
