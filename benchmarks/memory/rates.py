"""Seconds of one core that a large run takes of an image where no network is at work.

python -m benchmarks.memory.rates [--rates write_seconds …]

The process's own seconds, the median of ROUNDS, so that what else the machine does counts little.
They are rates of benchmarks/scale.py by their names there. Everything is generated: 1,000 classes,
images as bytes of a size that is no matter.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.memory.data import remembered
from benchmarks.runs import arguments
from pipeline.data.predictions import predictions_table, pseudo_labels_table
from pipeline.data.preparation.assign import assign_sides
from pipeline.data.preparation.duplicates import Compared
from pipeline.data.preparation.records import Records, check_ids
from pipeline.data.preparation.side_shards import SideShard, SideShards
from pipeline.data.preparation.slices import Slices, write_slice
from pipeline.data.shards import write_manifest, write_shard
from pipeline.labels.audit import audit
from pipeline.labels.select import Candidates, Reason, find_cuts, select
from pipeline.params import DataParams, SelectParams
from pipeline.progress import say
from pipeline.report.galleries import best_of_shards
from pipeline.tasks.classification import TASK

ROUNDS = 3
NUM_CLASSES, TEACHERS = 1000, 3
CLASSES = [f"class {number}" for number in range(NUM_CLASSES)]
IMAGE_BYTES, THUMBNAIL_BYTES = 23_000, 256


def seconds(work: Callable[[], object]) -> float:
    """The process's own, the median."""
    taken = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return statistics.median(taken)


def write_rate(at: Path, count: int = 2048) -> float:
    """The second pass of prepare, an unlabelled image."""
    schema = pa.schema([("id", pa.string()), ("image", pa.binary()), ("label", pa.int32())])
    draw = np.random.default_rng(0)
    images = [draw.bytes(IMAGE_BYTES) for _ in range(64)]
    ids = [f"image_{row:09d}.jpg" for row in range(count)]
    whole = pa.table({"id": ids, "image": images * (count // 64), "label": [None] * count}, schema)
    (at / "slices").mkdir()
    tables = (whole.slice(start, 64) for start in range(0, count, 64))
    write_slice(at / "slices", 0, tables, schema)
    slices, rows = Slices(at / "slices", np.array([count])), np.arange(count, dtype=np.int32)
    shard = SideShard("unlabeled", 0, [(0, rows)], {}, known=False, counted=False)
    done = iter(range(ROUNDS))

    def work() -> None:
        out = at / f"out-{next(done)}"
        out.mkdir()
        SideShards(slices, {"unlabeled": out}, {"unlabeled": out}, TASK, 3)(shard)

    return seconds(work) / count


def copies_rate(count: int = 1024, held_out: int = 8192) -> float:
    """To compare an image with one that is held out."""
    draw = np.random.default_rng(0)
    thumbnails = draw.integers(0, 256, (held_out + count, THUMBNAIL_BYTES), np.uint8)
    rows = np.arange(held_out + count)
    compared = Compared(rows[:held_out], thumbnails[:held_out], held_out, 4.0)
    compared.nearest(rows[held_out:], thumbnails[held_out:])  # makes the index
    work = seconds(lambda: compared.nearest(rows[held_out:], thumbnails[held_out:]))
    return work / count / held_out


def driver_rate(count: int = 100_000) -> float:
    """What prepare's driver remembers and decides of an image."""
    table = remembered(0, count)

    def work() -> None:
        records = Records.of([table], [])
        check_ids(records, ())
        none = np.full(count, -1, np.int64)
        data = DataParams(source="parquet", path="images.parquet", image_size=224)
        assign_sides(records, 10, data, 0, lambda rows, _: none[: len(rows)])

    return seconds(work) / count


def select_rate(count: int = 500_000) -> float:
    """What select's driver decides of an image."""
    draw = np.random.default_rng(0)
    candidates = Candidates(
        draw.integers(0, NUM_CLASSES, count).astype(np.int32),
        draw.uniform(0, 1, count).astype(np.float16).astype(np.float32),
        draw.integers(0, 2**63, count).astype(np.uint64),
        np.zeros(count, np.bool_),
    )
    truth = np.full(count, -1, np.int32)
    params = SelectParams(confidence_threshold=0.3, fraction_per_class=0.5)

    def work() -> None:
        cuts = find_cuts(candidates, CLASSES, params, TASK)
        audit(candidates, select(candidates, cuts), truth, cuts.thresholds)

    return seconds(work) / count


def report_rate(at: Path, count: int = 2048) -> float:
    """What the report's galleries of unlabelled images take of one, after TEACHERS generations."""
    draw = np.random.default_rng(0)
    ids = [f"image_{row:09d}.jpg" for row in range(count)]
    folders = [at / str(number) for number in range(TEACHERS)]
    for folder in folders:
        logits = draw.normal(0, 3, (count, NUM_CLASSES))
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        columns = TASK.prediction_columns(logits.astype(np.float32))
        table = predictions_table(ids, 0, columns)
        entry = write_shard(folder / "shard_00000.parquet", table)
        write_manifest(folder, [entry], {"num_classes": NUM_CLASSES})
    sure, repeats = np.exp(logits.max(axis=1)).astype(np.float32), np.ones(count, np.int32)
    reasons = pa.array([Reason.KEPT.text] * count)
    labels = logits.argmax(axis=1).astype(np.int32)
    made = {"probabilities": columns["log_probs"]}
    table = pseudo_labels_table(table, labels, sure, repeats, reasons, made)
    write_manifest(at / "kept", [write_shard(at / "kept" / "shard_00000.parquet", table)])

    def work() -> None:
        list(best_of_shards(folders, at / "kept"))

    return seconds(work) / count


RATES: dict[str, Callable[[Path], float]] = {
    "write_seconds": write_rate,
    "copies_seconds": lambda _: copies_rate(),
    "prepare_driver_seconds": lambda _: driver_rate(),
    "select_driver_seconds": lambda _: select_rate(),
    "report_seconds": report_rate,
}


def main() -> None:
    """Measure and print."""
    parser = arguments(__file__, __doc__)
    parser.add_argument("--rates", nargs="+", default=list(RATES), choices=list(RATES))
    names = parser.parse_args().rates
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            say(f"{name:24} {RATES[name](Path(folder)):.3g}")


if __name__ == "__main__":
    main()
