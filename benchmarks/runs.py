"""What all benchmarks share: arguments, runs that are kept, rounds, intervals, tables of pages.

A benchmark of accuracy keeps each finished run by what it depends on (`kept`), and goes on where it
stopped. A benchmark of speed takes ours and the reference in turn (`compare`) and hands its `Row`s
to `keep`. Both write benchmarks/results/NAME.json; a page shows them between
`<!-- results of NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import platform
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.files import file_digest, read_json, value_digest, write_json, write_text
from pipeline.progress import say
from pipeline.workflow.stop import end_with_parent

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
KEPT = ROOT / ".selftrain" / "benchmarks"
PAGE = ROOT / "docs" / "benchmarks.md"
SHARED = "data.py"  # what runs that are kept rest on
TABLE = re.compile(r"(<!-- results of (\w+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)
Measure = Callable[[], float]


def arguments(file: str, doc: str | None) -> argparse.ArgumentParser:
    """The command line of the benchmark in `file`, described by its docstring."""
    prog = f"python -m benchmarks.{Path(file).stem}"
    raw = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=prog, description=doc, formatter_class=raw)


def data_missing(folder: Path, names: Iterable[str] = ("",)) -> bool:
    """Whether one of these files (of `folder` itself without names) isn't there, which is said."""
    missing = [str(folder / name) for name in sorted(names) if not (folder / name).is_file()]
    if missing:
        say(f"{', '.join(missing)}: not there; nothing is measured")
    return bool(missing)


def side_by_side(processes: int) -> ProcessPoolExecutor:
    """So many fresh processes for runs of minutes, which end when this one is killed."""
    return ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=end_with_parent
    )


def kept(
    benchmark: Path,
    name: str,
    what: dict[str, Any],
    work: Callable[[], Any],
    *,
    code: str | None = None,
) -> Any:
    """What `work` gave, from its file if it was done before with the same `what` and code.

    code: a digest of the code that `work` depends on; None: of the pipeline, of what benchmarks
    share and of the file `benchmark`, which asks.
    """
    if code is None:
        files = [benchmark, ROOT / "benchmarks" / SHARED]
        code = value_digest([code_of(("pipeline", "stages")), *map(file_digest, files)])
    digest = value_digest({"what": what, "code": code})
    path = KEPT / f"{benchmark.stem}-{name}-{digest[:16]}.json"
    if not path.exists():
        write_json(path, work())
    return read_json(path)


def code_of(names: Iterable[str]) -> str:
    """One digest of the code in these files and packages, relative to the project's folder."""
    paths = [ROOT / name for name in names]
    files = [
        file for path in paths for file in ([path] if path.suffix else sorted(path.rglob("*.py")))
    ]
    return value_digest({str(file.relative_to(ROOT)): file_digest(file) for file in files})


def result_of(doc: str | None, **values: Any) -> dict[str, Any]:
    """A result with its protocol, which the benchmark's docstring states, and its machine."""
    protocol = " ".join(str(doc).split("The protocol: ")[1].split())
    return {"protocol": protocol, "machine": machine()} | values


def machine() -> str:
    """Where the figures were measured, in words."""
    return f"{platform.machine()}, {os.cpu_count()} CPUs, 1 thread"


def half_interval(values: Sequence[float], coverage: float = 0.95) -> float:
    """Half the interval of the mean of at least two values, by Student's t."""
    from scipy.special import stdtrit

    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(stdtrit(len(values) - 1, (1 + coverage) / 2)) * error


def spread(values: Sequence[float], sign: str = "") -> str:
    """Mean ± half its 95 % interval."""
    return f"{np.mean(values):{sign}.1f} ± {half_interval(values):.1f}"


def gain_table(rows: Sequence[dict[str, float]], names: Iterable[str], alone: str) -> str:
    """In Markdown: mean and 95 % interval of each name over the seeds, and the gain over `alone`.

    rows: accuracies by name, one for each seed; names: the lines in order.
    """
    lines = [f"| | test accuracy, % | over {alone} |", "|---|---|---|"]
    for name in names:
        gains = [100 * (row[name] - row[alone]) for row in rows]
        more = "" if name == alone else spread(gains, "+")
        lines.append(f"| {name} | {spread([100 * row[name] for row in rows])} | {more} |")
    return "\n".join(lines)


def percent(values: dict[str, float]) -> str:
    """Accuracies by name, in one line."""
    return ", ".join(f"{name} {100 * value:.1f}" for name, value in values.items())


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

    @property
    def bar(self) -> str:
        """The bar in words."""
        sign, bar = ("≥", self.at_least) if self.at_most is None else ("≤", self.at_most)
        return "" if bar is None else f"{sign} {bar:g}{'' if self.met else ': missed'}"


def compare(
    name: str, unit: str, ours: Measure, reference: Measure, *, rounds: int, **bar: float
) -> Row:
    """Measure both in turn, every other round in the opposite order.

    bar: at_least or at_most, as Row has them.
    """
    answers: dict[str, list[float]] = {"ours": [], "reference": []}
    measures = [("ours", ours), ("reference", reference)]
    for number in range(rounds):
        for which, measure in measures if number % 2 == 0 else measures[::-1]:
            gc.collect()
            answers[which].append(measure())
        values = ", ".join(f"{which} {_figure(each[-1])}" for which, each in answers.items())
        say(f"{name}, round {number + 1} of {rounds}: {values}")
    middle = {which: statistics.median(each) for which, each in answers.items()}
    pairs = zip(answers["ours"], answers["reference"], strict=True)
    ratio = statistics.median(mine / other for mine, other in pairs)
    return Row(name, unit, middle["ours"], middle["reference"], ratio, **bar)


def machine_facts(threads: int) -> dict[str, Any]:
    """What the figures depend on: the processor, its cores, how many threads worked, versions."""
    import torch

    info = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", info.read_text() if info.exists() else "", re.M)
    return {
        "processor": model[1].strip() if model else platform.processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
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
    """Write the rows to `results` and their table to the page. about: the settings measured."""
    result = {
        "bench": bench,
        "rows": [asdict(row) | {"met": row.met} for row in rows],
        "rounds": rounds,
        "machine": machine_facts(threads),
        "about": dict(about or {}),
    }
    write_json(results / f"{bench}.json", result)
    put_table(page, bench, table(result))
    say(table(result))


def table(result: Mapping[str, Any]) -> str:
    """The Markdown table of a result as `keep` wrote it, and under it where it was measured."""
    lines = ["| | ours | reference | ratio | bar |", "|---|---|---|---|---|"]
    for values in result["rows"]:
        row = Row(**{key: value for key, value in values.items() if key != "met"})
        reference = "" if row.reference is None else _figure(row.reference)
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        cells = (f"{row.name}, {row.unit}", _figure(row.ours), reference, ratio, row.bar)
        lines.append(f"| {' | '.join(cells)} |")
    where = result["machine"]
    times = [f"{result['rounds']} round", f"{where['threads']} thread"]
    counted = "; ".join(each if each.startswith("1 ") else f"{each}s" for each in times)
    device = where["gpu"] or f"{where['processor']}, {where['cores']} cores"
    return "\n".join([*lines, "", f"{counted}; {device}."])


def put_table(page: Path, name: str, text: str) -> None:
    """Put `text` where `page` has its place for the results of `name`; ValueError without one."""
    before = page.read_text(encoding="utf-8")
    if name not in {match[2] for match in TABLE.finditer(before)}:
        raise ValueError(f"{page}: has no place for the results of {name}")

    def renewed(match: re.Match[str]) -> str:
        return f"{match[1]}\n{text}\n\n{match[3]}" if match[2] == name else match[0]

    write_text(page, TABLE.sub(renewed, before))


def _figure(value: float) -> str:
    """Three digits that count, in plain figures."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
