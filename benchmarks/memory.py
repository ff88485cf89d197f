"""Memory and seconds of what goes through all images, by the number of images.

python -m benchmarks.memory [--images 1000000] [--steps galleries select …] [--folder DIR]

Generated images of 4×4 pixels, features of 8 numbers, and predictions and pseudo-labels of 10
classes, in the formats of the stages. Each step runs in a process of its own over a tenth of the
images and over all of them: bytes an image are the growth of its peak between the two, seconds a
million those of all. The peak is of what is the process's own (RssAnon): pages of files are the
machine's to take back.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.runs import arguments
from pipeline.data.encoding import encode_png
from pipeline.data.features import features_metadata, features_table
from pipeline.data.predictions import predictions_table
from pipeline.data.preparation.shard_writer import IMAGES_PER_GROUP
from pipeline.data.shards import (
    IMAGE_SCHEMA,
    ShardEntry,
    parquet_writer,
    read_manifest,
    shard_name,
    write_manifest,
    write_shard,
)
from pipeline.files import file_digest
from pipeline.models.spec import model_digest
from pipeline.params import PredictParams, PropagationParams, SelectParams
from pipeline.progress import say
from pipeline.tasks.classification import TASK

CLASSES = [f"class {number}" for number in range(10)]
SIDE, NUM_FEATURES, ROWS_PER_SHARD, LABELS = 4, 8, 10_000, 500
PARTS = ("labeled", "unlabeled", "validation", "test")
POLL_SECONDS = 0.01


def write_images(folder: Path, part: str, count: int) -> None:
    """A prepared folder and its features: `count` images, with labels but in `unlabeled`."""
    draw = np.random.default_rng(len(part))
    centres = np.random.default_rng(0).normal(size=(len(CLASSES), NUM_FEATURES))
    images, features = folder / "prepared" / part, folder / "features" / part
    images.mkdir(parents=True)
    png = [encode_png(np.full((SIDE, SIDE, 1), 20 * k, np.uint8)) for k in range(len(CLASSES))]
    entries, beside = [], []
    for number, start in enumerate(range(0, count, ROWS_PER_SHARD)):
        rows = min(ROWS_PER_SHARD, count - start)
        ids = [f"{part}/image_{start + row:09d}.png" for row in range(rows)]
        labels = draw.integers(0, len(CLASSES), rows)
        known = [None] * rows if part == "unlabeled" else labels.tolist()
        table = pa.table(
            {
                "id": ids,
                "image": pa.array([png[label] for label in labels], pa.binary()),
                "label": pa.array(known, pa.int32()),
            },
            schema=IMAGE_SCHEMA,
        )
        path = images / shard_name(number)
        with parquet_writer(path, IMAGE_SCHEMA) as writer:
            writer.write_table(table, row_group_size=IMAGES_PER_GROUP)
        entries.append(ShardEntry(path.name, rows, file_digest(path)))
        points = centres[labels] + draw.normal(0, 1, (rows, NUM_FEATURES))
        beside.append(write_shard(features / path.name, features_table(ids, points)))
    write_manifest(images, entries, {"channels": 1, "image_size": SIDE})
    body = model_digest(folder / "features" / "body")
    write_manifest(features, beside, features_metadata(images, body, NUM_FEATURES))


def said_of(count: int, seed: int, guessed: NDArray[Any] | None = None) -> NDArray[np.float32]:
    """Log-probabilities (n, 10) of a teacher that is sure of some images and of others not."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(count, len(CLASSES)))
    labels = draw.integers(0, len(CLASSES), count) if guessed is None else guessed
    logits[np.arange(count), labels] += draw.uniform(0, 8, count)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logits.astype(np.float32)


def write_predictions(images: Path, out: Path, seed: int) -> None:
    """What a teacher thought of the images of a prepared folder."""
    from pipeline.data.shards import read_entry

    entries = []
    for number, entry in enumerate(read_manifest(images).shards):
        table = read_entry(images, entry, ["id", "label"])
        labels = table["label"].to_numpy() if table["label"].null_count == 0 else None
        columns = TASK.prediction_columns(said_of(entry.rows, seed + number, labels))
        strangers = np.arange(entry.rows) % 50 == 0
        ids = table["id"].to_pylist()
        table = predictions_table(ids, number, columns, strangers=strangers)
        entries.append(write_shard(out / entry.file, table))
    write_manifest(out, entries, {"num_classes": len(CLASSES)})


def write_pseudo_labels(predictions: Path, out: Path) -> None:
    """The predictions over a half as pseudo-labels, all others with the reason."""
    from pipeline.data.predictions import pseudo_labels_table
    from pipeline.data.shards import read_entry
    from pipeline.labels.select import Reason

    entries = []
    for entry in read_manifest(predictions).shards:
        table = read_entry(predictions, entry)
        labels, logs = (table[name].to_numpy() for name in ("label", "log_confidence"))
        sure = np.exp(logs.astype(np.float32))
        kept = sure >= 0.5
        texts = pa.array([Reason.KEPT.text, Reason.BELOW_THRESHOLD.text])
        reasons = texts.take(pa.array((~kept).astype(np.int32)))
        columns = {"probabilities": table["log_probs"].combine_chunks()}
        made = pseudo_labels_table(table, labels, sure, kept.astype(np.int32), reasons, columns)
        entries.append(write_shard(out / entry.file, made))
    metadata = {"num_classes": len(CLASSES), "label_kind": "hard"}
    write_manifest(out, entries, metadata)


def write_body(folder: Path) -> None:
    """A network whose classifier reads NUM_FEATURES numbers, never run here."""
    from pipeline.models.checkpoint import network_of, save_checkpoint
    from pipeline.models.head import BODY, CLASSIFIER
    from pipeline.models.parts import head_names
    from pipeline.models.spec import ModelSpec
    from pipeline.params import ModelParams

    network = ModelParams(name="resnet_small", width=4).network
    spec = ModelSpec(network, CLASSES, SIDE, 1, [0.5], [0.25], generation=BODY)
    built = network_of(spec)
    spec.notes[CLASSIFIER] = head_names(built)[0]
    save_checkpoint(folder, built.state_dict(), spec)


def write_all(folder: Path, count: int) -> None:
    """What the steps go through: `count` unlabelled and as many test images, and LABELS labels."""
    from pipeline.data.preparation.shard_writer import write_rows

    write_body(folder / "features" / "body")
    write_images(folder, "unlabeled", count)
    write_images(folder, "labeled", LABELS)
    write_images(folder, "many_labeled", count)
    write_images(folder, "test", count)
    write_images(folder, "validation", LABELS)
    prepared = folder / "prepared"
    for key in ("1", "2"):
        write_predictions(prepared / "unlabeled", folder / "predictions" / key, int(key) << 20)
        write_predictions(prepared / "many_labeled", folder / "labeled" / key, int(key) << 21)
    write_pseudo_labels(folder / "predictions" / "2", folder / "pseudo_labels")
    truth = (
        {"id": f"unlabeled/image_{row:09d}.png", "label": row % len(CLASSES)}
        for row in range(count)
    )
    schema = pa.schema([("id", pa.string()), ("label", pa.int32())])
    write_rows(folder / "truth.parquet", truth, schema)


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
    typical_queue(prepared / "unlabeled", prepared / "labeled", pixel_features, count=100)


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
            said = said_of(len(targets), seed, targets)
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


def own_memory(process: int) -> int:
    """The bytes of a process that are its own, in memory now."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def measured(step: str, folder: Path) -> tuple[float, float]:
    """Peak bytes beyond those before the work, and its seconds."""
    command = [sys.executable, "-m", "benchmarks.memory", "--child", step, str(folder)]
    begun, before, peak = 0.0, 0, 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert "ready" in child.stdout.readline()
        begun, before = time.perf_counter(), own_memory(child.pid)
        while child.poll() is None:
            peak = max(peak, own_memory(child.pid))
            time.sleep(POLL_SECONDS)
        seconds = time.perf_counter() - begun
    assert child.returncode == 0, step
    return peak - before, seconds


def child(step: str, folder: Path) -> None:
    """Do one step, once everything that it imports is there."""
    import torch

    torch.set_num_threads(1)
    import faiss, scipy.sparse, sklearn.cluster  # noqa
    import pipeline.report.galleries, pipeline.self_training.heads  # noqa

    print("ready", flush=True)
    STEPS[step](folder)


def main() -> None:
    """Measure and print."""
    parser = arguments(__file__, __doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--steps", nargs="+", default=list(STEPS))
    parser.add_argument("--folder", type=Path, help="where the images are left for another run")
    parser.add_argument("--child", nargs=2)
    given = parser.parse_args()
    if given.child:
        child(given.child[0], Path(given.child[1]))
        return
    with tempfile.TemporaryDirectory() as made:
        compare(given.folder or Path(made), given.images, given.steps)


def compare(folder: Path, images: int, steps: Sequence[str]) -> None:
    """Print what each step takes of a tenth of the images and of all."""
    sizes = (images // 10, images)
    for count in sizes:
        if not (folder / str(count) / "truth.parquet").exists():
            begun = time.perf_counter()
            write_all(folder / str(count), count)
            say(f"wrote {count:,} in {time.perf_counter() - begun:.0f} s")
    for step in steps:
        few, many = (measured(step, folder / str(count)) for count in sizes)
        grown = (many[0] - few[0]) / (sizes[1] - sizes[0])
        per = [1e6 * each[1] / count for each, count in zip((few, many), sizes, strict=True)]
        say(
            f"{step:15} {grown:8.0f} bytes an image; peaks {few[0] / 1e6:.0f} and "
            f"{many[0] / 1e6:.0f} MB; {per[0]:.1f} and {per[1]:.1f} s a million"
        )


if __name__ == "__main__":
    main()
