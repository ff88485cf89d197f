"""docs/reliability.md, of the results of `make chaos`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.chaos.left import DOUBLED, LOST
from benchmarks.runs import ROOT

PAGE = ROOT / "docs" / "reliability.md"
HEAD = Path(__file__).with_name("reliability.md")


def reliability_page(result: dict[str, Any]) -> str:
    """The page in Markdown; `result`: as the results file holds it."""
    lines = [HEAD.read_text(encoding="utf-8"), _how_far(result["boundaries"]), ""]
    lines += ["| stage | file operations | killed after | survived | full disks | survived |"]
    lines += ["|---|---|---|---|---|---|"]
    lines += [_boundary_row(row) for row in result["boundaries"]]
    if any(row["runs"] for row in result["moments"]):
        lines += ["", "`dvc repro`, ended at random moments, again and again until it is done:"]
        columns = ("signal", "times", "runs", "that ended as the uninterrupted one")
        lines += ["", f"| {' | '.join(columns)} | DVC's lock removed by hand |"]
        lines += ["|---|---|---|---|---|"]
        lines += [_moment_row(row) for row in result["moments"]]
    rows = [*result["boundaries"], *result["moments"]]
    lines += ["", "Together:", "", *_together(rows)]
    if problems := [problem for row in rows for problem in row["problems"]]:
        lines += ["", "What was wrong:", "", *(f"- {problem}" for problem in problems)]
    return "\n".join([*lines, "", f"{result['machine']}.", ""])


def _how_far(rows: list[dict[str, Any]]) -> str:
    operations, kills = (sum(row[what] for row in rows) for what in ("operations", "kills"))
    if kills == operations:
        return f"Killed after each of {operations} operations."
    return f"Killed so far after {kills} of {operations} operations."


def _together(rows: list[dict[str, Any]]) -> list[str]:
    problems = [line for row in rows for line in row["problems"]]
    tried = sum(row["kills"] + row.get("full", 0) for row in rows)
    failed = len({line.partition(":")[0] for line in problems})
    lost, doubled = (_counted(problems, what) for what in (LOST, DOUBLED))
    files = sum(line.endswith((": missing", ": left over", ": other bytes")) for line in problems)
    logged = sum(
        "logged" in line or "MLflow" in line or line.endswith(" runs") for line in problems
    )
    return [
        "| faults tried | survived | images lost | images doubled "
        "| files missing, left over or of other bytes | runs or steps logged twice or never |",
        "|---|---|---|---|---|---|",
        f"| {tried} | {tried - failed} | {lost} | {doubled} | {files} | {logged} |",
    ]


def _counted(problems: list[str], what: str) -> int:
    ends = [line.removesuffix(f" {what}") for line in problems if line.endswith(f" {what}")]
    return sum(int(line.rpartition(" ")[2]) for line in ends)


def _boundary_row(row: dict[str, Any]) -> str:
    full = len({p.partition(":")[0] for p in row["problems"] if ", disk full after" in p})
    killed = len({p.partition(":")[0] for p in row["problems"]}) - full
    return (
        f"| `{row['stage']}` | {row['operations']} | {row['kills']} | {row['kills'] - killed} "
        f"| {row['full']} | {row['full'] - full} |"
    )


def _moment_row(row: dict[str, Any]) -> str:
    wrong = len({problem.partition(":")[0] for problem in row["problems"]})
    as_it_was = row["runs"] - wrong
    return f"| {row['signal']} | {row['kills']} | {row['runs']} | {as_it_was} | {row['locks']} |"
