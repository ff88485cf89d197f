"""What goes through all images, each step by itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.memory.data import CLASSES, SIDE, many_said, remembered
from pipeline.params import PredictParams, PropagationParams, SelectParams
from pipeline.tasks.classification import TASK

SLICE_ROWS = 1_000
PICKED_FROM = 5_000  # images that are clustered, whatever their number


def sides(at: Path) -> None:
    """What prepare's driver remembers of all images, and on which side each falls; near copies are
    sought elsewhere."""
    from functools import partial

    from pipeline.data.preparation.assign import assign_sides
    from pipeline.data.preparation.corrections import apply_corrections
    from pipeline.data.preparation.duplicates import exact_copies
    from pipeline.data.preparation.records import Records, check_ids
    from pipeline.data.preparation.slices import Slices
    from pipeline.data.shards import read_manifest
    from pipeline.params import DataParams

    def ingested() -> Records:
        count = read_manifest(at / "prepared" / "unlabeled").rows
        starts = range(0, count, SLICE_ROWS)
        parts = [remembered(start, min(SLICE_ROWS, count - start)) for start in starts]
        records = Records.of(parts, [])
        del parts
        pa.default_memory_pool().release_unused()
        return records

    records, data = ingested(), DataParams(source="parquet", path="images", image_size=SIDE * 2)
    check_ids(records, ())
    copies = partial(exact_copies, records.digests)
    assigned = assign_sides(records, len(CLASSES), data, 0, copies)
    slices = Slices(at, np.array([], np.int64))
    apply_corrections(records, assigned.sides, {}, slices, TASK, data, len(CLASSES))


def galleries(at: Path) -> None:
    """The report's galleries of unlabelled images."""
    from pipeline.report.galleries import unlabeled_galleries

    folders = [at / "predictions" / key for key in ("1", "2")]
    made = unlabeled_galleries(
        at / "prepared" / "unlabeled", folders, at / "pseudo_labels", CLASSES
    )
    assert len(made) >= 5


def taught(at: Path) -> None:
    """The report's galleries of what is taught."""
    from pipeline.report.taught import taught_galleries

    taught_galleries(at / "prepared" / "unlabeled", at / "pseudo_labels", CLASSES, TASK)


def pick_doubtful(at: Path) -> None:
    """`selftrain pick` by doubt."""
    from pipeline.labels.queue import doubtful_queue

    folders = [at / "predictions" / key for key in ("1", "2")]
    assert len(doubtful_queue(at / "prepared" / "unlabeled", folders, CLASSES, count=100)) == 100


def pick_typical(at: Path) -> None:
    """`selftrain pick` of typical images."""
    from pipeline.labels.pool import pixel_features
    from pipeline.labels.queue import typical_queue

    prepared = at / "prepared"
    typical_queue(
        prepared / "unlabeled",
        prepared / "labeled",
        pixel_features,
        count=100,
        most_images=PICKED_FROM,
    )


def select(at: Path) -> None:
    """The stage select, with alignment."""
    from pipeline.labels.pseudo_label import select_pseudo_labels
    from pipeline.labels.shard_selector import read_truth

    params = SelectParams(
        confidence_threshold=0.5, fraction_per_class=0.3, distribution_alignment="estimated"
    )
    with tempfile.TemporaryDirectory(dir=at) as out:
        select_pseudo_labels(
            at / "predictions" / "2",
            Path(out),
            params,
            task=TASK,
            classes=CLASSES,
            labeled=at / "prepared" / "labeled",
            truth=read_truth(at / "truth.parquet", TASK, SIDE),
        )


def refine(at: Path) -> None:
    """Strangers and what neighbours say, over predictions."""
    from pipeline.self_training.pseudo_label import PseudoLabeling

    with tempfile.TemporaryDirectory(dir=at) as scratch:
        work = PseudoLabeling(
            at / "prepared",
            at / "features",
            (at / "features" / "body",),
            PredictParams(propagation=PropagationParams()),
            0,
            Path(scratch),
            at / "predictions" / "2",
            None,
        )
        work._refine(at / "predictions" / "2", Path(scratch) / "predictions")


def label_issues(at: Path) -> None:
    """Labels that models contradict, over as many labelled images."""
    from pipeline.evaluate.label_issues import (
        find_label_issues,
        read_label_issues,
        write_label_issues,
    )

    folders = {key: at / "labeled" / key for key in ("1", "2")}
    weights = {"1": 0.5, "2": 0.5}
    labeled = at / "prepared" / "many_labeled"
    issues = find_label_issues(labeled, folders, weights, CLASSES, least_margin=0.0)
    with tempfile.TemporaryDirectory(dir=at) as out:
        write_label_issues(Path(out) / "issues.csv", issues)
        del issues
        read_label_issues(Path(out) / "issues.csv")


def evaluations(at: Path) -> None:
    """evaluate, ensemble and the report's mistakes, over as many test and validation images."""
    from pipeline.evaluate.ensemble import judge_ensemble
    from pipeline.evaluate.measure import read_targets
    from pipeline.evaluate.result import load_result, model_result, save_result, write_confusion
    from pipeline.report.mistakes import find_mistakes

    test = at / "prepared" / "test"
    targets = read_targets(test, TASK, SIDE)
    with tempfile.TemporaryDirectory(dir=at) as name:
        out = Path(name)
        for seed in range(3):
            said = many_said(len(targets), seed << 20, targets)
            result = model_result(
                TASK, said, said, targets, said, targets, len(CLASSES), interval=0.95
            )
            save_result(out / str(seed), result, TASK)
            write_confusion(out / "confusion.csv", result, CLASSES, TASK)
            del result, said
        del targets
        results = {str(seed): load_result(out / str(seed), TASK) for seed in range(3)}
        judge_ensemble(TASK, results, "greedy", candidates=results, interval=0.95)
        result = results["0"]
        find_mistakes(test, result.test_predictions, result.test_targets, CLASSES)


def stream_order(at: Path) -> None:
    """Batches of pseudo-labelled images that are streamed."""
    from pipeline.data.blocks import PseudoLabelReader
    from pipeline.data.streamed import ShardStream

    reader = PseudoLabelReader(at / "pseudo_labels", TASK)
    stream = ShardStream(at / "prepared" / "unlabeled", window=4096, pseudo_labels=reader)
    for step in range(3):
        stream.batch(step, 64, 0, slice(0, None, 1))


def head(at: Path) -> None:
    """A head on features, taught by pseudo-labels."""
    from pipeline.self_training.heads import HeadJob

    with tempfile.TemporaryDirectory(dir=at) as out:
        job = HeadJob(
            prepared=at / "prepared",
            features=at / "features",
            classes=CLASSES,
            generation="1",
            pseudo_labels=at / "pseudo_labels",
            teacher=None,
            weight=1.0,
            num_folds=None,
            seed=0,
        )
        job.fit(Path(out) / "model")


STEPS: dict[str, Callable[[Path], None]] = {
    work.__name__: work
    for work in (
        sides,
        galleries,
        taught,
        pick_doubtful,
        pick_typical,
        select,
        refine,
        label_issues,
        evaluations,
        stream_order,
        head,
    )
}
