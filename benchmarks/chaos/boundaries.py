"""Kill a stage after each of its file operations, run it again, and compare what it leaves."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chaos.stages import Bench, Step, contents, run_step
from benchmarks.chaos.traced import Outcome
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


def everywhere(
    once: Callable[[Clean, Bench, int], list[str]],
    clean: Clean,
    bench: Bench,
    *,
    every: int = 1,
    jobs: int = 1,
) -> Tally:
    """Do `once` at each operation of the stage; `every`: at every n-th alone."""
    points = chosen(len(clean.operations), every)
    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(lambda point: once(clean, bench, point), points)
        problems = [problem for point in found for problem in point]
    return Tally(clean.step.title, len(points), problems)


def kill_once(clean: Clean, bench: Bench, point: int) -> list[str]:
    """Kill the stage after operation `point`, run it again; what is not as it was, a line each."""

    def judge(cut: Outcome) -> list[str]:
        if cut.killed or cut.code == 0:
            return []
        return [f"not killed but {cut.code}: {cut.said[-500:]}"]

    where = f"{clean.step.title} killed after {point}, {clean.operations[point - 1]}"
    return cut_and_rerun(clean, bench, where, judge, kill_at=point)


def cut_and_rerun(
    clean: Clean, bench: Bench, where: str, judge: Callable[[Outcome], list[str]], **when: int
) -> list[str]:
    """Run the stage with a fault, then without; what `judge` says of the first, what is left wrong.

    where: what the lines begin with; when: the fault, as run_step has it.
    """
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=clean.before.parent) as beside:
        folder = Path(beside) / clean.before.name
        shutil.copytree(clean.before, folder)
        problems = judge(run_step(clean.step, folder, bench, **when))
        again = run_step(clean.step, folder, bench)
        if again.code:
            problems.append(f"the rerun ended with {again.code}: {again.said[-500:]}")
        else:
            problems += differences(clean.after, contents(folder)) + twice_logged(folder)
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
