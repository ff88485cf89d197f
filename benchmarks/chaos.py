"""Kill every stage at each of its file operations and `dvc repro` at random moments; run it again.

python -m benchmarks.chaos [--every N] [--every-full N] [--moments N] [--jobs N] [--stages NAME …]

What the second run leaves is compared with an uninterrupted run's, byte by byte. What was tried is
kept under .selftrain/benchmarks, so it goes on where it stopped; docs/reliability.md gets the
results.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.runs import RESULTS, ROOT, arguments, code_of, kept, machine, put_table
from benchmarks.small_run import (
    Step,
    contents,
    copy_repository,
    make_project,
    start,
    start_repro,
    steps,
)
from pipeline.files import write_json
from pipeline.progress import say
from pipeline.tracking.spool import all_spools, read_events

HERE, PAGE = Path(__file__), ROOT / "docs" / "reliability.md"
CODE = (
    *("pipeline", "stages", "dvc.yaml"),
    *(f"benchmarks/{name}.py" for name in ("chaos", "small_run", "file_operations")),
)
RAY_GAVE_UP = "timed out during startup"  # after 30 seconds, on a machine with too much to do
TRIES, LIMIT_SECONDS, LONGEST_SECONDS = 3, 900.0, 40.0


@dataclass(frozen=True)
class Clean:
    """A stage's uninterrupted run: the folder before it, a digest by file after it, what it did."""

    step: Step
    before: Path
    after: dict[str, str]
    operations: list[str]


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: `code` as subprocess has it, what it said, its file operations."""

    code: int
    said: str
    operations: list[str]


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """The files that are missing, left over or of other bytes than expected."""
    how = {(True, False): "missing", (False, True): "left over", (True, True): "other bytes"}
    return [
        f"{name}: {how[name in expected, name in found]}"
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]


def twice_logged(folder: Path) -> list[str]:
    """Stages with two runs, a line each; spools of one key go to one run."""
    headers = [read_events(spool)[0][0] for spool in all_spools(folder)]
    counts = Counter({each["run_key"]: each["name"] for each in headers}.values())
    return [f"{name}: logged as {count} runs" for name, count in counts.items() if count > 1]


def run_step(step: Step, folder: Path, code: Path, kill: int = 0, full: int = 0) -> Outcome:
    """Run a stage of the program in `code` as DVC does: without the outputs of an earlier run.

    kill, full: the operation at which it is killed, or from which on the disk is full; 0: none.
    """
    for name in step.outputs:
        shutil.rmtree(folder / name, ignore_errors=True)
        with suppress(FileNotFoundError):
            (folder / name).unlink()
    runner = str(code / "benchmarks" / "file_operations.py")
    for _ in range(TRIES):
        with tempfile.NamedTemporaryFile() as log, tempfile.NamedTemporaryFile() as said:
            command = [sys.executable, "-P", runner, log.name, str(kill), str(full), *step.command]
            process = start(command, folder, said, PYTHONPATH=str(code))
            try:
                ended = process.wait(LIMIT_SECONDS)
            finally:
                _kill(process)
            operations = Path(log.name).read_text(encoding="utf-8").splitlines()
            text = Path(said.name).read_text(encoding="utf-8", errors="replace")
        if ended == 0 or RAY_GAVE_UP not in text:
            break
    return Outcome(ended, text, operations)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def clean_runs(folder: Path, code: Path, todo: list[Step]) -> Iterator[Clean]:
    """Run the stages in turn in `folder`, with a copy of it before each; raises RuntimeError."""
    for number, step in enumerate(todo):
        before = folder.with_name(f"{folder.name}-{number}")
        shutil.copytree(folder, before)
        outcome = run_step(step, folder, code)
        if outcome.code:
            raise RuntimeError(f"{step.title} ended with {outcome.code}:\n{outcome.said}")
        yield Clean(step, before, contents(folder), outcome.operations)


def try_fault(clean: Clean, code: Path, fault: str, point: int) -> list[str]:
    """Run the stage with a "kill" or a "full" disk at operation `point`, then without; what was
    wrong, a line each."""
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=clean.before.parent) as beside:
        folder = Path(beside) / "project"
        shutil.copytree(clean.before, folder)
        problems = wrong_end(fault, run_step(clean.step, folder, code, **{fault: point}))
        again = run_step(clean.step, folder, code)
        if again.code:
            problems.append(f"the rerun ended with {again.code}: {again.said[-500:]}")
        else:
            problems += differences(clean.after, contents(folder)) + twice_logged(folder)
    where = f"{clean.step.title}, {fault} at {point}, {[*clean.operations, 'end'][point - 1]}"
    say(f"{where}: {len(problems)} problems")
    return [f"{where}: {problem}" for problem in problems]


def wrong_end(fault: str, cut: Outcome) -> list[str]:
    """What is wrong with how a stage ended with a fault; on a full disk it may have got through."""
    said_why = "No space left" in cut.said and "Traceback" not in cut.said
    right = cut.code == -signal.SIGKILL if fault == "kill" else cut.code == 0 or said_why
    return [] if right else [f"ended with {cut.code}: {cut.said[-500:]}"]


def points(operations: int, every: int, fault: str) -> list[int]:
    """The operations at which to try: every n-th and the last, of kills also the end after it."""
    last = operations + 1 if fault == "kill" else operations
    return sorted({*range(1, last + 1, every), last})


def at_operations(folder: Path, every: dict[str, int], jobs: int, only: list[str] | None) -> Any:
    """A row for each stage, of the faults at every so manieth of its file operations."""
    code, key, rows = folder / "code", code_of(CODE), []
    for name in ("pipeline", "stages", "benchmarks"):  # here they may be edited meanwhile
        shutil.copytree(ROOT / name, code / name)
    make_project(folder / "project")
    for clean in list(clean_runs(folder / "project", code, steps())):
        title, count = clean.step.title, len(clean.operations)
        row: dict[str, Any] = {"stage": title, "operations": count, "problems": []}

        def tried(fault: str, point: int, clean: Clean = clean) -> Any:
            def work() -> list[str]:
                return try_fault(clean, code, fault, point)

            name = f"{clean.step.title}-{fault}-{point}"
            return kept(HERE, name, {"operations": clean.operations}, work, code=key)

        for fault, step in every.items():
            todo = points(count, step, fault) if only is None or title in only else []
            with ThreadPoolExecutor(jobs) as pool:
                found = list(pool.map(lambda point, fault=fault: tried(fault, point), todo))
            row |= {fault: len(todo), f"{fault} survived": found.count([])}
            row["problems"] += [problem for problems in found for problem in problems]
        rows.append(row)
    return rows


def at_moments(folder: Path, most: int) -> dict[str, Any]:
    """`dvc repro` killed at random moments, so often, and again until it ends by itself."""
    source, key = folder / "repository", code_of(CODE)
    copy_repository(source)
    make_project(source)
    subprocess.run(["git", "init", "-q"], cwd=source, check=True)
    whole = kept(HERE, "whole", {}, lambda: killed_at_random(source, 0), code=key)
    killed = kept(HERE, "moments", {"most": most}, lambda: killed_at_random(source, most), code=key)
    problems = whole["problems"] + killed["problems"] + differences(whole["left"], killed["left"])
    return {"kills": killed["kills"], "problems": problems}


def killed_at_random(source: Path, most: int) -> dict[str, Any]:
    """What `dvc repro` in a copy of `source` leaves, at most so often killed; and how often."""
    draws, kills = random.Random(most), 0
    with tempfile.TemporaryDirectory(prefix="moments-", dir=source.parent) as beside:
        project = Path(beside) / "project"
        shutil.copytree(source, project)
        while True:
            process = start_repro(project)
            try:
                code = process.wait(draws.uniform(0.5, LONGEST_SECONDS) if kills < most else None)
                break
            except subprocess.TimeoutExpired:
                _kill(process)
                kills += 1
        said = (project / ".git" / "said").read_text(encoding="utf-8", errors="replace")
        problems = [f"dvc repro ended with {code}: {said[-500:]}"] if code else []
        problems += twice_logged(project)
        return {"kills": kills, "left": contents(project), "problems": problems}


def table(result: dict[str, Any]) -> str:
    """The results in Markdown."""
    columns = ("operations", "kill", "kill survived", "full", "full survived")
    rows, moments = result["operations"], result["moments"]
    together = [sum(row[column] for row in rows) for column in columns]
    lines = ["| stage | file operations | killed at | survived | full disks | survived |"]
    lines.append("|---|---|---|---|---|---|")
    for name, figures in [
        *((f"`{row['stage']}`", [row[column] for column in columns]) for row in rows),
        ("together", together),
    ]:
        lines.append(f"| {name} | {' | '.join(map(str, figures))} |")
    if moments["kills"]:
        same = "ended as" if not moments["problems"] else "did not end as"
        lines += ["", f"`dvc repro`, killed {moments['kills']} times at random moments and started"]
        lines[-1] += f" again until it was done, {same} the uninterrupted one."
    if problems := [line for row in [*rows, moments] for line in row["problems"]]:
        lines += ["", "What was wrong:", "", *(f"- {problem}" for problem in problems)]
    return "\n".join([*lines, "", f"{result['machine']}."])


def main() -> int:
    """1 where something was not as in the uninterrupted run, else 0."""
    parser = arguments(__file__, __doc__)
    parser.add_argument("--every", type=int, default=1, help="kill at every n-th operation")
    parser.add_argument("--every-full", type=int, default=7, help="as --every, of full disks")
    parser.add_argument("--jobs", type=int, default=2, help="stages at once")
    parser.add_argument("--moments", type=int, default=30, help="random moments; 0: none")
    parser.add_argument("--stages", nargs="*", help="these alone, as select@1; no name: none")
    given = parser.parse_args()
    every = {"kill": given.every, "full": given.every_full}
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        rows = at_operations(Path(name), every, given.jobs, given.stages)
        moments: dict[str, Any] = {"kills": 0, "problems": []}
        if given.moments:
            moments = at_moments(Path(name), given.moments)
    result = {"operations": rows, "moments": moments, "machine": machine()}
    write_json(RESULTS / "chaos.json", result)
    put_table(PAGE, "chaos", table(result))
    return 1 if any(row["problems"] for row in [*rows, moments]) else 0


if __name__ == "__main__":
    sys.exit(main())
