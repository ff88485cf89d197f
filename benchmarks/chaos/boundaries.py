"""Kill a stage after each of its file operations, run it again, and compare what it leaves."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chaos.stages import Bench, Step, contents, run_step
from benchmarks.chaos.tracked import twice_logged
from pipeline.progress import say


@dataclass(frozen=True)
class Clean:
    """A stage's uninterrupted run: the folder before it, what was there after, its operations."""

    step: Step
    before: Path
    after: dict[str, str]
    operations: list[str]


@dataclass
class Tally:
    """What the kills of one stage came to; `problems`: one line for each that is not as it was."""

    stage: str
    kills: int = 0
    problems: list[str] = field(default_factory=list)


def clean_runs(steps: Sequence[Step], folder: Path, bench: Bench) -> Iterator[Clean]:
    """Run the stages in turn in `folder`, with a copy of it before each; raises RuntimeError."""
    for number, step in enumerate(steps):
        before = folder.with_name(f"{folder.name}-{number}")
        shutil.copytree(folder, before)
        outcome = run_step(step, folder, bench)
        if outcome.code:
            raise RuntimeError(f"{step.title} ended with {outcome.code}:\n{outcome.said}")
        yield Clean(step, before, contents(folder), outcome.operations)


def chosen(operations: int, every: int) -> list[int]:
    """The operations after which to kill: each, or every n-th and the last."""
    return sorted({*range(1, operations + 1, every), operations})


def kill_everywhere(clean: Clean, bench: Bench, *, every: int = 1, jobs: int = 1) -> Tally:
    """Kill the stage after each operation; `every`: after every n-th alone."""
    points = chosen(len(clean.operations), every)
    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(lambda point: kill_once(clean, bench, point), points)
        problems = [problem for point in found for problem in point]
    return Tally(clean.step.title, len(points), problems)


def kill_once(clean: Clean, bench: Bench, point: int) -> list[str]:
    """Kill the stage after operation `point`, run it again; what is not as it was, a line each."""
    where = f"{clean.step.title} killed after {point}, {clean.operations[point - 1]}"
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=clean.before.parent) as beside:
        folder = Path(beside) / clean.before.name
        shutil.copytree(clean.before, folder)
        cut = run_step(clean.step, folder, bench, kill_at=point)
        if not cut.killed and cut.code != 0:
            return [f"{where}: not killed but {cut.code}: {cut.said[-500:]}"]
        again = run_step(clean.step, folder, bench)
        if again.code:
            return [f"{where}: the rerun ended with {again.code}: {again.said[-500:]}"]
        unequal = differences(clean.after, contents(folder))
        problems = unequal + twice_logged(folder)
    for problem in problems:
        say(f"{where}: {problem}")
    return [f"{where}: {problem}" for problem in problems]


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """The files that are missing, left over or other than expected."""
    names = sorted({*expected, *found})
    return [
        f"{name}: {_how(expected.get(name), found.get(name))}"
        for name in names
        if expected.get(name) != found.get(name)
    ]


def _how(expected: str | None, found: str | None) -> str:
    if expected is None:
        return "left over"
    return "missing" if found is None else "other bytes"


def kinds(operations: Sequence[str]) -> dict[str, int]:
    """How many operations of each kind."""
    return dict(Counter(line.partition(" ")[0] for line in operations))
