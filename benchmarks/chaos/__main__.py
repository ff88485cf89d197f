"""Kill everything everywhere, and write docs/reliability.md.

python -m benchmarks.chaos [--every N] [--jobs N] [--moments N] [--stages NAME …]

Each stage is killed after each of its file operations and at random moments under DVC; what the
rerun leaves is compared with an uninterrupted run's, byte by byte.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.chaos.boundaries import clean_runs, everywhere, kill_once, kinds
from benchmarks.chaos.disk import fill_once
from benchmarks.chaos.moments import kill_at_random, settled, small_repository, start_repro
from benchmarks.chaos.page import PAGE, reliability_page
from benchmarks.chaos.stages import Bench, contents, copy_code, make_project, steps
from benchmarks.chaos.traced import build, compiler
from benchmarks.runs import RESULTS, machine
from pipeline.files import write_json, write_text
from pipeline.progress import say

SIGNALS = (signal.SIGKILL, signal.SIGTERM)


def at_boundaries(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each stage, of the kills and of the full disks at its file operations."""
    copy_code(folder / "code")
    bench = Bench(folder / "code", build(folder))
    make_project(folder / "project")
    rows = []
    for clean in clean_runs(steps(sys.executable), folder / "project", bench):
        title = clean.step.title
        if options.stages and title.partition("@")[0] not in options.stages:
            continue
        started = time.monotonic()
        killed = everywhere(kill_once, clean, bench, every=options.every, jobs=options.jobs)
        filled = everywhere(fill_once, clean, bench, every=options.every_full, jobs=options.jobs)
        row = asdict(killed) | {"full": filled.kills, "operations": len(clean.operations)}
        row["problems"] += filled.problems
        rows.append(row | {"kinds": kinds(clean.operations)})
        seconds = time.monotonic() - started
        say(f"{title}: {killed.kills} kills, {filled.kills} full disks in {seconds:.0f} s")
    return rows


def at_moments(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each signal, of `dvc repro` ended by it at random moments."""
    if not options.moments:
        return []
    source = folder / "repository"
    small_repository(source)
    shutil.copytree(source, folder / "clean")
    if start_repro(folder / "clean").wait():
        raise RuntimeError((folder / "clean/.git/said").read_text(encoding="utf-8"))
    expected, problems = contents(folder / "clean"), settled(folder / "clean")
    rows = []
    for number in SIGNALS:
        count = options.moments if number == signal.SIGKILL else max(1, options.moments // 6)
        came = kill_at_random(source, expected, kills=count, seed=options.seed, number=number)
        rows.append(asdict(came) | {"signal": number.name})
    rows[0]["problems"] += problems
    return rows


def main() -> int:
    """1 where something was not as in the uninterrupted run, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="kill after every n-th operation")
    parser.add_argument("--every-full", type=int, default=7, help="as --every, of full disks")
    parser.add_argument("--jobs", type=int, default=2, help="stages at once")
    parser.add_argument("--moments", type=int, default=30, help="random moments; 0: none")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--stages", nargs="*", help="these alone, without @generation")
    options = parser.parse_args()
    if compiler() is None:
        print("chaos: needs a C compiler, the command cc", file=sys.stderr)
        return 2
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        boundaries = at_boundaries(Path(folder), options)
        moments = at_moments(Path(folder), options)
    result = {
        "boundaries": boundaries,
        "moments": moments,
        "every": options.every,
        "minutes": round((time.monotonic() - started) / 60),
        "machine": machine(),
    }
    problems = [line for row in [*boundaries, *moments] for line in row["problems"]]
    if not options.stages:
        write_json(RESULTS / "chaos.json", result)
        write_text(PAGE, reliability_page(result))
    say(f"{len(problems)} problems")
    for problem in problems:
        say(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
