"""Let the disk become full while a stage writes: one clear line, and a rerun that finishes."""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.chaos.boundaries import Clean, Tally, chosen, differences
from benchmarks.chaos.stages import Bench, contents, run_step
from benchmarks.chaos.tracked import twice_logged
from pipeline.progress import say


def fill_everywhere(clean: Clean, bench: Bench, *, every: int, jobs: int = 1) -> Tally:
    """Let the disk be full from every n-th operation on, in a run each."""
    points = chosen(len(clean.operations), every)
    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(lambda point: fill_once(clean, bench, point), points)
        problems = [problem for point in found for problem in point]
    return Tally(clean.step.title, len(points), problems)


def fill_once(clean: Clean, bench: Bench, point: int) -> list[str]:
    """Fill the disk after operation `point`, then make space; what is wrong, a line each."""
    where = f"{clean.step.title}, disk full after {point}, {clean.operations[point - 1]}"
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=clean.before.parent) as beside:
        folder = Path(beside) / clean.before.name
        shutil.copytree(clean.before, folder)
        full = run_step(clean.step, folder, bench, full_at=point)
        problems = refusals(full.code, full.said)
        again = run_step(clean.step, folder, bench)
        if again.code:
            problems.append(f"the rerun ended with {again.code}: {again.said[-500:]}")
        else:
            problems += differences(clean.after, contents(folder)) + twice_logged(folder)
    for problem in problems:
        say(f"{where}: {problem}")
    return [f"{where}: {problem}" for problem in problems]


def refusals(code: int, said: str) -> list[str]:
    """What is wrong with how a stage ended on a full disk, if it still had to write."""
    if "Traceback" in said:
        return [f"a traceback: {said[-700:]}"]
    if code and "No space left" not in said:
        return [f"ended with {code} and does not say why: {said[-500:]}"]
    return []
