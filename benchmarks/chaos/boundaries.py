"""Kill a stage after each of its file operations, run it again, and compare what it leaves."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.left import contents, differences, images, lost_or_doubled
from benchmarks.chaos.stages import Bench, Step, run_step
from benchmarks.chaos.traced import Outcome
from benchmarks.chaos.tracked import twice_logged
from pipeline.progress import say


@dataclass(frozen=True)
class Clean:
    """A stage's uninterrupted run: the folder before it, what was there after, its operations.

    `after`: a digest by file; `images`: how often each is there.
    """

    step: Step
    before: Path
    after: dict[str, str]
    images: dict[str, int]
    operations: list[str]


@dataclass(frozen=True)
class Fault:
    """A fault at an operation of a stage, which happened or not, and what was wrong after it."""

    point: int
    happened: bool
    problems: list[str]


def clean_runs(steps: Sequence[Step], folder: Path, bench: Bench) -> Iterator[Clean]:
    """Run the stages in turn in `folder`, with a copy of it before each; raises RuntimeError."""
    for number, step in enumerate(steps):
        before = folder.with_name(f"{folder.name}-{number}")
        shutil.copytree(folder, before)
        outcome = run_step(step, folder, bench)
        if outcome.code:
            raise RuntimeError(f"{step.title} ended with {outcome.code}:\n{outcome.said}")
        yield Clean(step, before, contents(folder), images(folder), outcome.operations)


def chosen(operations: int, every: int) -> list[int]:
    """The operations after which to kill: each, or every n-th and the last."""
    return sorted({*range(1, operations + 1, every), operations})


def everywhere(
    once: Callable[[Clean, Bench, int], Fault],
    clean: Clean,
    bench: Bench,
    points: Iterable[int],
    *,
    jobs: int = 1,
) -> Iterator[Fault]:
    """Do `once` at these operations of the stage, `jobs` at a time; in the order of `points`."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda point: once(clean, bench, point), points)


def kill_once(clean: Clean, bench: Bench, point: int) -> Fault:
    """Kill the stage after operation `point` and run it again."""

    def judge(cut: Outcome) -> list[str]:
        if cut.killed or cut.code == 0:
            return []
        return [f"not killed but {cut.code}: {cut.said[-500:]}"]

    where = f"{clean.step.title} killed after {point}, {clean.operations[point - 1]}"
    return cut_and_rerun(clean, bench, where, judge, kill_at=point)


def cut_and_rerun(
    clean: Clean, bench: Bench, where: str, judge: Callable[[Outcome], list[str]], **when: int
) -> Fault:
    """Run the stage with a fault, then without; what `judge` says of the first, what is left wrong.

    where: what the lines begin with; when: the fault, as run_step has it.
    """
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=clean.before.parent) as beside:
        folder = Path(beside) / clean.before.name
        shutil.copytree(clean.before, folder)
        cut = run_step(clean.step, folder, bench, **when)
        problems = judge(cut)
        again = run_step(clean.step, folder, bench)
        if again.code:
            problems.append(f"the rerun ended with {again.code}: {again.said[-500:]}")
        else:
            problems += differences(clean.after, contents(folder)) + twice_logged(folder)
            problems += lost_or_doubled(clean.images, images(folder))
    for problem in problems:
        say(f"{where}: {problem}")
    (point,) = when.values()
    return Fault(point, cut.code != 0, [f"{where}: {problem}" for problem in problems])


def kinds(operations: Sequence[str]) -> dict[str, int]:
    """How many operations of each kind."""
    return dict(Counter(line.partition(" ")[0] for line in operations))
