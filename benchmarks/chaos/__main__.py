"""Kill everything everywhere, and write docs/reliability.md.

python -m benchmarks.chaos [--every N] [--jobs N] [--moments N] [--stages NAME …]

Each stage is killed after each of its file operations and at random moments under DVC; what the
rerun leaves is compared with an uninterrupted run's, byte by byte. What was tried is kept, so it
goes on where it stopped; the page tells of all that was.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.chaos.boundaries import chosen, everywhere, kill_once, kinds
from benchmarks.chaos.disk import fill_once
from benchmarks.chaos.kept import Journal, kept_clean_runs, kept_folder, moments_file
from benchmarks.chaos.moments import Left, kill_at_random, small_repository, uninterrupted
from benchmarks.chaos.page import PAGE, reliability_page
from benchmarks.chaos.stages import forking
from benchmarks.chaos.traced import compiler
from benchmarks.runs import RESULTS, machine
from pipeline.files import read_json, write_json, write_text
from pipeline.progress import say

FAULTS = {"kill": kill_once, "full": fill_once}
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


def at_boundaries(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each stage, of the kills and of the full disks at its file operations."""
    bench, cleans = kept_clean_runs(folder, sys.executable)
    journal = Journal(folder / "faults.jsonl")
    with forking(bench, options.jobs) as fast:
        for clean in cleans:
            title, started = clean.step.title, time.monotonic()
            if options.stages is not None and title.partition("@")[0] not in options.stages:
                continue
            for fault, once in FAULTS.items():
                every = options.every if fault == "kill" else options.every_full
                tried = {
                    row["point"]
                    for row in journal.rows
                    if (row["stage"], row["fault"]) == (title, fault)
                }
                points = [p for p in chosen(len(clean.operations), every) if p not in tried]
                for came in everywhere(once, clean, fast, points, jobs=options.jobs):
                    journal.add({"stage": title, "fault": fault} | asdict(came))
            say(f"{title}: {time.monotonic() - started:.0f} s")
    return [_boundary_row(clean.step.title, clean.operations, journal.rows) for clean in cleans]


def _boundary_row(title: str, operations: list[str], tried: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [row for row in tried if row["stage"] == title]
    happened = {
        fault: sum(row["happened"] for row in rows if row["fault"] == fault) for fault in FAULTS
    }
    problems = [problem for row in rows for problem in row["problems"]]
    row = {"stage": title, "operations": len(operations), "kinds": kinds(operations)}
    return row | {"kills": happened["kill"], "full": happened["full"], "problems": problems}


def at_moments(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each signal, of `dvc repro` ended by it at random moments."""
    journal, record = Journal(moments_file(folder)), folder / "uninterrupted.json"
    source = folder / "repository" / "source"
    if options.moments and not record.exists():
        shutil.rmtree(source.parent, ignore_errors=True)
        small_repository(source)
        write_json(record, asdict(uninterrupted(source)))
    rows = []
    for number in SIGNALS:
        count = options.moments if number == signal.SIGKILL else options.moments // 6
        while (done := sum(row["kills"] for row in _of(number, journal))) < count:
            run = len(_of(number, journal)) + 1
            expected, seed = Left(**read_json(record)), f"{options.seed} {number.name} {run}"
            most = count - done
            came = kill_at_random(source, expected, most=most, seed=seed, number=number)
            wrong = [f"{number.name}, run {run}: {problem}" for problem in came.problems]
            journal.add({"signal": number.name} | asdict(came) | {"problems": wrong})
        runs = _of(number, journal)
        problems = [problem for row in runs for problem in row["problems"]]
        row = {"signal": number.name, "runs": len(runs), "problems": problems}
        rows.append(row | {what: sum(run[what] for run in runs) for what in ("kills", "locks")})
    return rows


def _of(number: signal.Signals, journal: Journal) -> list[dict[str, Any]]:
    return [row for row in journal.rows if row["signal"] == number.name]


def main() -> int:
    """1 where something was not as in the uninterrupted run, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="kill after every n-th operation")
    parser.add_argument("--every-full", type=int, default=7, help="as --every, of full disks")
    parser.add_argument("--jobs", type=int, default=2, help="stages at once")
    parser.add_argument("--moments", type=int, default=30, help="random moments; 0: none")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument(
        "--stages", nargs="*", help="these alone, without @generation; no name: none"
    )
    options = parser.parse_args()
    if compiler() is None:
        print("chaos: needs a C compiler, the command cc", file=sys.stderr)
        return 2
    folder = kept_folder()
    boundaries, moments = at_boundaries(folder, options), at_moments(folder, options)
    result = {"boundaries": boundaries, "moments": moments, "machine": machine()}
    problems = [line for row in [*boundaries, *moments] for line in row["problems"]]
    write_json(RESULTS / "chaos.json", result)
    write_text(PAGE, reliability_page(result))
    say(f"{len(problems)} problems")
    for problem in problems:
        say(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
