"""How a benchmark measures: ours and the reference in turn, medians over rounds, kept as JSON.

A benchmark gives `compare` what measures ours and what measures the reference, makes `Row`s of the
answers, and hands them to `keep`, which writes benchmarks/results/NAME.json and renews the table of
that name in docs/benchmarks.md.
"""

from __future__ import annotations

import gc
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.runs import RESULTS, ROOT
from pipeline.files import read_json, write_json, write_text
from pipeline.progress import say

PAGE = ROOT / "docs" / "benchmarks.md"
TABLE = re.compile(r"(<!-- results of (\w+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)
Measure = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """One comparison, or one figure where `reference` is None.

    ratio: the median over the rounds of ours / reference in the same round, so that what slows a
    round as a whole cancels; at_least, at_most: the bar that the ratio must reach, or `ours` where
    there is no reference.
    """

    name: str
    unit: str
    ours: float
    reference: float | None = None
    ratio: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bar is reached; None without one."""
        value = self.ours if self.ratio is None else self.ratio
        if self.at_least is not None:
            return value >= self.at_least
        return None if self.at_most is None else value <= self.at_most


def in_turn(measures: Mapping[str, Measure], rounds: int) -> dict[str, list[float]]:
    """What each measure answers in each round; every other round asks in the opposite order."""
    answers: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(rounds):
        names = list(measures) if number % 2 == 0 else list(measures)[::-1]
        for name in names:
            gc.collect()
            answers[name].append(measures[name]())
        values = ", ".join(f"{name} {_figure(each[-1])}" for name, each in answers.items())
        say(f"round {number + 1} of {rounds}: {values}")
    return answers


def compare(
    name: str,
    unit: str,
    ours: Measure,
    reference: Measure,
    *,
    rounds: int,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    """Measure both in turn; see Row."""
    say(name)
    answers = in_turn({"ours": ours, "reference": reference}, rounds)
    return compared(name, unit, answers, at_least=at_least, at_most=at_most)


def compared(
    name: str,
    unit: str,
    answers: Mapping[str, Sequence[float]],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    """The row of answers "ours" and "reference", one of each a round; see Row."""
    pairs = zip(answers["ours"], answers["reference"], strict=True)
    return Row(
        name,
        unit,
        statistics.median(answers["ours"]),
        statistics.median(answers["reference"]),
        statistics.median(ours / reference for ours, reference in pairs),
        at_least,
        at_most,
    )


def rate(
    work: Callable[[], object], count: int, *, warm_up: bool = False, own: bool = False
) -> float:
    """How many of `count` things `work` does a second; warm_up: it is done once before.

    own: seconds of this process's threads, which other processes disturb less than the wall's.
    """
    clock = time.process_time if own else time.perf_counter
    if warm_up:
        work()
    started = clock()
    work()
    return count / (clock() - started)


def machine_facts(threads: int) -> dict[str, Any]:
    """What the figures depend on: the processor, its cores, how many threads worked, versions."""
    import psutil
    import torch

    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "load_before": round(os.getloadavg()[0], 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def keep(
    bench: str,
    rows: Sequence[Row],
    *,
    rounds: int,
    threads: int = 1,
    about: Mapping[str, Any] | None = None,
    page: Path = PAGE,
    results: Path = RESULTS,
) -> None:
    """Write the rows to `results` and renew the page. about: the settings measured."""
    result = {
        "bench": bench,
        "rows": [asdict(row) | {"met": row.met} for row in rows],
        "rounds": rounds,
        "machine": machine_facts(threads),
        "about": dict(about or {}),
    }
    write_json(results / f"{bench}.json", result)
    renew_page(page, results)
    say(table(result))


def table(result: Mapping[str, Any]) -> str:
    """The Markdown table of a result as `keep` wrote it, and under it where it was measured."""
    lines = ["| | ours | reference | ratio | bar |", "|---|---|---|---|---|"]
    for values in result["rows"]:
        row = Row(**{key: value for key, value in values.items() if key != "met"})
        reference = "" if row.reference is None else _figure(row.reference)
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        cells = (f"{row.name}, {row.unit}", _figure(row.ours), reference, ratio, _bar(row))
        lines.append(f"| {' | '.join(cells)} |")
    where = result["machine"]
    rounds = result["rounds"]
    device = where["gpu"] or f"{where['processor']}, {where['cores']} cores"
    lines += ["", f"{_times(rounds, 'round')}; {_times(where['threads'], 'thread')}; {device}."]
    return "\n".join(lines)


def renew_page(page: Path = PAGE, results: Path = RESULTS) -> None:
    """Put the tables of `results` where `page` names them; a result that it does not name raises.

    A table stands between `<!-- results of NAME -->` and `<!-- end -->`.
    """
    text = page.read_text(encoding="utf-8")

    def renewed(match: re.Match[str]) -> str:
        path = results / f"{match[2]}.json"
        made = table(read_json(path)) if path.exists() else "No figures are kept yet."
        return f"{match[1]}\n{made}\n\n{match[3]}"

    named = {match[2] for match in TABLE.finditer(text)}
    if missing := sorted(kept_benches(results) - named):
        raise ValueError(f"{page}: has no place for the results of {', '.join(missing)}")
    write_text(page, TABLE.sub(renewed, text))


def kept_benches(results: Path = RESULTS) -> set[str]:
    """The benches whose results `keep` wrote to the folder."""
    return {path.stem for path in results.glob("*.json") if "bench" in read_json(path)}


def _times(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _bar(row: Row) -> str:
    if row.met is None:
        return ""
    sign, bar = ("≥", row.at_least) if row.at_least is not None else ("≤", row.at_most)
    assert bar is not None
    return f"{sign} {bar:g}{'' if row.met else ': missed'}"


def _figure(value: float) -> str:
    """Three digits that count, in plain figures."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _processor() -> str:
    """The processor's name as the system says it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    match = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return match[1].strip() if match else platform.processor()


if __name__ == "__main__":
    renew_page()
