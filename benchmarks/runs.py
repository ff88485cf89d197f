"""What the benchmarks share: runs that are kept, and intervals over seeds."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.files import file_digest, value_digest, write_json
from pipeline.runtime.stage import code_digest
from pipeline.runtime.stop import end_with_parent

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
KEPT = ROOT / ".selftrain" / "benchmarks"
Part = Callable[[str, Callable[[], float]], float]  # what a run's part of this name came to
SHARED = ("fashion_mnist.py", "in_process.py", "in_process_models.py")


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

    `benchmark`: the file that asks; it, what benchmarks share and the pipeline are the code, or
    else what `code` is the digest of.
    """
    files = [benchmark, *(benchmark.parent / shared for shared in SHARED)]
    here = [file.read_text(encoding="utf-8") for file in files if file.exists()]
    made_by = {"code": code_digest(), "here": here} if code is None else {"code": code}
    digest = value_digest({"what": what} | made_by)
    path = KEPT / f"{benchmark.stem}-{name}-{digest[:16]}.json"
    if not path.exists():
        write_json(path, work())
    return json.loads(path.read_text(encoding="utf-8"))


def code_of(names: Iterable[str]) -> str:
    """One digest of the code in these files and packages, relative to the project's folder."""
    paths = [ROOT / name for name in names]
    files = [
        file for path in paths for file in ([path] if path.suffix else sorted(path.rglob("*.py")))
    ]
    return value_digest({str(file.relative_to(ROOT)): file_digest(file) for file in files})


def at_once(part: str, work: Callable[[], float]) -> float:
    """A run's part that is not kept."""
    return work()


def parts_kept(benchmark: Path, name: str, what: dict[str, Any]) -> Part:
    """Keep each part of the run `name` by itself: one that is stopped goes on at its next part."""

    def part_kept(part: str, work: Callable[[], float]) -> float:
        return float(kept(benchmark, f"{name}-{part.replace(' ', '-')}", what, work))

    return part_kept


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


def gain_table(
    rows: Sequence[dict[str, float]], names: Iterable[str], alone: str, *, gain: str, title: str
) -> str:
    """In Markdown: mean and 95 % interval of each name over the seeds, and the gain over `alone`.

    rows: accuracies by name, one for each seed; names: the lines in order; title, gain: what stands
    over the names and over the gains.
    """
    lines = [f"| {title} | test accuracy, % | {gain} |", "|---|---|---|"]
    for name in names:
        gains = [100 * (row[name] - row[alone]) for row in rows]
        more = "" if name == alone else spread(gains, "+")
        lines.append(f"| {name} | {spread([100 * row[name] for row in rows])} | {more} |")
    return "\n".join(lines)


def percent(values: dict[str, float]) -> str:
    """Accuracies by name, in one line."""
    return ", ".join(f"{name} {100 * value:.1f}" for name, value in values.items())
