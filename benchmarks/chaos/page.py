"""docs/reliability.md, of the results of `make chaos`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT

PAGE = ROOT / "docs" / "reliability.md"
HEAD = Path(__file__).with_name("reliability.md")


def reliability_page(result: dict[str, Any]) -> str:
    """The page in Markdown; `result`: as the results file holds it."""
    rows = [*result["boundaries"], *result["moments"]]
    total = {"lost": 0, "doubled": 0, "bytes": 0}
    for line in (line for row in rows for line in row["problems"]):
        total[problem_kind(line)] += 1
    which = "each" if result["every"] == 1 else f"every {ordinal(result['every'])}, and the last"
    lines = [HEAD.read_text(encoding="utf-8"), f"Killed after {which}.", ""]
    lines += ["| stage | file operations | kills | survived | full disks | survived |"]
    lines += ["|---|---|---|---|---|---|"]
    lines += [_boundary_row(row) for row in result["boundaries"]]
    if result["moments"]:
        lines += [
            "",
            "`dvc repro`, ended at random moments until it is done:",
        ]
        lines += ["", "| signal | times | runs that came to their end | as uninterrupted |"]
        lines += ["|---|---|---|---|"]
        lines += [_moment_row(row) for row in result["moments"]]
    tried = sum(row["kills"] + row.get("full", 0) for row in rows)
    failed = len({line.partition(":")[0] for row in rows for line in row["problems"]})
    lines += ["", "| faults tried | survived | files lost | files or steps doubled | bytes other |"]
    lines += ["|---|---|---|---|---|"]
    lines += [
        f"| {tried} | {tried - failed} | {total['lost']} | {total['doubled']} | {total['bytes']} |"
    ]
    lines += ["", f"{result['machine']}; {result['minutes']} minutes."]
    return "\n".join([*lines, ""])


def problem_kind(line: str) -> str:
    """Whether something was lost, doubled or left over, or otherwise not as it was."""
    if line.endswith(": missing") or "MLflow lacks" in line:
        return "lost"
    if line.endswith((" times", " runs", "left over")):
        return "doubled"
    return "bytes"


def ordinal(number: int) -> str:
    """As in "every 4th"."""
    ends = {1: "st", 2: "nd", 3: "rd"}
    end = "th" if 10 < number % 100 < 14 else ends.get(number % 10, "th")
    return f"{number}{end}"


def _boundary_row(row: dict[str, Any]) -> str:
    full = len({p.partition(":")[0] for p in row["problems"] if ", disk full after" in p})
    killed = len({p.partition(":")[0] for p in row["problems"]}) - full
    return (
        f"| `{row['stage']}` | {row['operations']} | {row['kills']} | {row['kills'] - killed} "
        f"| {row['full']} | {row['full'] - full} |"
    )


def _moment_row(row: dict[str, Any]) -> str:
    wrong = len({problem.partition(":")[0] for problem in row["problems"]})
    return f"| {row['signal']} | {row['kills']} | {row['runs']} | {row['runs'] - wrong} |"
