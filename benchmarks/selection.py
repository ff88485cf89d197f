"""Rows a second of the selection of pseudo-labels, and that it is what a full sort gives.

python -m benchmarks.selection [--millions 1 10 100] [--classes 10 1000] [--rounds 3] [--folder DIR]

Predictions are generated as shards on disk and removed at the end: 2.4 GB for 100 million of 10
classes, 11 GB of 1,000. Each round runs in a process of its own, whose peak memory is taken: the
choice (two passes: counts, then the cut), and with it the writing of the pseudo-labels. The
reference is what the choice is defined by: a sort of all predictions at once, in memory, at one
million rows. A size that was measured with the same code is not measured again.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.measure import Row, compared, in_turn, keep
from benchmarks.runs import kept
from pipeline.data.distributions import MOST_WHOLE, TOP
from pipeline.data.predictions import predictions_table, read_predictions
from pipeline.data.shards import (
    ShardEntry,
    iter_shards,
    read_manifest,
    shard_name,
    write_manifest,
    write_shard,
)
from pipeline.labels.pseudo_label import find_cuts, in_threads, select_pseudo_labels
from pipeline.labels.shard_selector import ShardSelector
from pipeline.labels.ties import tie_breakers
from pipeline.progress import say

MILLION, FEW = 1_000_000, 10
ROWS_PER_SHARD = 4096  # as data.images_per_shard has it
DISTINCT_SHARDS = 64  # so many are drawn; further ones hold the same values under other ids
THRESHOLD, SHARE, MAX_REPEATS = 0.5, 0.5, 4


def drawn_log_probs(number: int, rows: int, num_classes: int) -> NDArray[np.float32]:
    """What a teacher might say, (n, K): as sure as accuracies of 70 to 90 % come with."""
    draw = np.random.default_rng([number, num_classes])
    logits = draw.normal(0, 3 if num_classes <= MOST_WHOLE else 2, (rows, num_classes))
    logits[np.arange(rows), draw.integers(0, num_classes, rows)] += 4.0
    logits[:, : num_classes // 3] += 0.7
    logits -= logits.max(axis=1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logits.astype(np.float32)


def write_drawn(folder: Path, num_classes: int, number: int, rows: int) -> ShardEntry:
    """One shard of generated predictions."""
    first = number * ROWS_PER_SHARD
    ids = [f"photos/image_{place:09d}.jpg" for place in range(first, first + rows)]
    table = drawn_table(number % DISTINCT_SHARDS, rows, num_classes)
    table = table.set_column(0, table.schema.field("id"), pa.array(ids, pa.string()))
    return write_shard(folder / shard_name(number), table)


@lru_cache(maxsize=DISTINCT_SHARDS + 1)
def drawn_table(number: int, rows: int, num_classes: int) -> Any:
    """What `drawn_log_probs` gives, as the table of a shard."""
    return predictions_table([""] * rows, number, drawn_log_probs(number, rows, num_classes))


def generate(folder: Path, rows: int, num_classes: int, processes: int) -> None:
    """Shards of `rows` generated predictions and their manifest."""
    count = -(-rows // ROWS_PER_SHARD)
    sizes = [min(ROWS_PER_SHARD, rows - number * ROWS_PER_SHARD) for number in range(count)]
    with ProcessPoolExecutor(processes) as pool:
        write = partial(write_drawn, folder, num_classes)
        entries = list(pool.map(write, range(count), sizes, chunksize=16))
    write_manifest(folder, entries, {"num_classes": num_classes})


def rules(rows: int, num_classes: int) -> dict[str, Any]:
    """A threshold and so many of each class."""
    return {
        "classes": [str(number) for number in range(num_classes)],
        "confidence_threshold": THRESHOLD if num_classes <= MOST_WHOLE else THRESHOLD / 10,
        "class_thresholds": {},
        "threshold_kind": "fixed",
        "images_per_class": max(1, round(SHARE * rows / num_classes)),
        "fraction_per_class": None,
        "max_repeats": MAX_REPEATS,
    }


def measure(folder: Path, out: str, threads: int) -> dict[str, float]:
    """Seconds and peak memory (MiB) of one selection here; `out` "": of the choice alone."""
    manifest = read_manifest(folder)
    num_classes = int(manifest.metadata["num_classes"])
    chosen, over = rules(manifest.rows, num_classes), in_threads(threads)
    level = _peak_mib()
    started, cpu = time.perf_counter(), time.process_time()
    if out:
        select_pseudo_labels(
            folder,
            Path(out),
            label_kind="soft",
            temperature=1.0,
            target_shares=None,
            truth={},
            map_shards=over,
            **chosen,
        )
    else:
        find_cuts(ShardSelector(folder, manifest, num_classes), over, **chosen)
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": _peak_mib(),
        "start_mib": level,
    }


def _peak_mib() -> float:
    """The most memory this process has held; what getrusage says, its parent may have held."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


def in_own_process(folder: Path, out: str, threads: int) -> dict[str, float]:
    """`measure` in a process of its own, so that its peak memory is that of the selection."""
    command = [sys.executable, "-m", "benchmarks.selection", "--measure", str(folder)]
    command += ["--out", out, "--threads", str(threads)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return answer


def sorted_at_once(folder: Path) -> dict[str, Any]:
    """Seconds of a sort of everything in memory, and how often each image then counts."""
    started = time.perf_counter()
    shards = list(read_predictions(folder))
    manifest = read_manifest(folder)
    log_probs = np.concatenate([shard.log_probs for shard in shards])
    hashes = tie_breakers(name for shard in shards for name in shard.ids)
    chosen = rules(manifest.rows, log_probs.shape[1])
    labels, surest = log_probs.argmax(axis=1), np.exp(log_probs.max(axis=1))
    sure = np.flatnonzero(surest >= np.float32(chosen["confidence_threshold"]))
    order = sure[np.lexsort((hashes[sure], -surest[sure], labels[sure]))]
    counts = np.bincount(labels[order], minlength=log_probs.shape[1])
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    whole, rest = np.divmod(chosen["images_per_class"], np.repeat(counts, counts))
    repeats = np.zeros(len(labels), np.int64)
    repeats[order] = np.minimum(whole + (rank < rest), chosen["max_repeats"])
    return {"seconds": time.perf_counter() - started, "repeats": repeats}


def images_that_differ(folder: Path, scratch: Path, threads: int) -> int:
    """How many images count otherwise than after a sort of everything."""
    out = scratch / "compared"
    in_own_process(folder, str(out), threads)
    found = [table.column("repeats").to_numpy() for table in iter_shards(out, ["repeats"])]
    shutil.rmtree(out)
    return int((np.concatenate(found) != sorted_at_once(folder)["repeats"]).sum())


def measured(millions: int, num_classes: int, args: argparse.Namespace) -> dict[str, Any]:
    """What one size came to, by round."""
    rows = millions * MILLION
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="selection-") as name:
        folder, scratch = Path(name) / "predictions", Path(name)
        folder.mkdir()
        say(f"{millions} million rows of {num_classes} classes")
        generate(folder, rows, num_classes, args.threads)
        size = sum(path.stat().st_size for path in folder.iterdir())
        found: dict[str, Any] = {"rows": rows, "classes": num_classes, "bytes": size}
        measures = {"choice": lambda: _rate(in_own_process(folder, "", args.threads), found)}
        if millions <= args.written:
            measures["written"] = lambda: _written(folder, scratch, args.threads, found)
        if millions == 1:
            found["differ"] = images_that_differ(folder, scratch, args.threads)
            measures["full sort"] = lambda: MILLION / sorted_at_once(folder)["seconds"]
        return found | {"rates": in_turn(measures, args.rounds)}


def _rate(seen: dict[str, float], found: dict[str, Any]) -> float:
    """Rows a second of wall time; the processor's time and the peak go to `found`."""
    found["peak_mib"] = max(seen["peak_mib"], found.get("peak_mib", 0))
    found["cpu_seconds"] = min(seen["cpu_seconds"], found.get("cpu_seconds", math.inf))
    return float(found["rows"] / seen["seconds"])


def _written(folder: Path, scratch: Path, threads: int, found: dict[str, Any]) -> float:
    out = scratch / "pseudo_labels"
    seen = in_own_process(folder, str(out), threads)
    shutil.rmtree(out)
    found["written_mib"] = max(seen["peak_mib"], found.get("written_mib", 0))
    return float(found["rows"] / seen["seconds"])


def rows_of(cases: list[dict[str, Any]]) -> list[Row]:
    """The table of all sizes: rates in million rows a second."""
    table = []
    for case in cases:
        title = f"{case['rows'] // MILLION} million rows of {case['classes']} classes"
        bar = 3.0 if case["classes"] == FEW else None
        rates = {name: [rate / MILLION for rate in each] for name, each in case["rates"].items()}
        choice = statistics.median(rates["choice"])
        table.append(Row(f"{title}: chosen", "million rows/s", choice, at_least=bar))
        if "written" in rates:
            written = statistics.median(rates["written"])
            table.append(Row(f"{title}: chosen and written", "million rows/s", written))
        if "full sort" in rates:
            both = {"ours": rates["choice"], "reference": rates["full sort"]}
            table.append(compared(f"{title}: against a full sort", "million rows/s", both))
            table.append(Row(f"{title}: that differ", "images", case["differ"], at_most=0))
        table.append(Row(f"{title}: peak memory", "MiB", case["peak_mib"], at_most=1024))
        each = 1e9 * case["cpu_seconds"] / case["rows"]
        table.append(Row(f"{title}: processor time", "ns/row", each))
    return table


def main() -> None:
    """Measure every size that was not measured with this code yet, and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--classes", type=int, nargs="+", default=[FEW, 1000])
    parser.add_argument("--written", type=int, default=10, help="most millions also written")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the predictions are generated")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        say(json.dumps(measure(args.measure, args.out, args.threads)))
        return
    how = {"rounds": args.rounds, "threads": args.threads}
    cases = []
    for classes in args.classes:
        for size in args.millions:
            what = how | {"millions": size, "classes": classes}
            work = partial(measured, size, classes, args)
            cases.append(kept(Path(__file__), f"{size}-{classes}", what, work))
    about = {"cases": cases, "rows_per_shard": ROWS_PER_SHARD, "kept_classes": TOP}
    keep("select", rows_of(cases), **how, about=about)


if __name__ == "__main__":
    main()
