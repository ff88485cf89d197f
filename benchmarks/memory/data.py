"""Generated images, features, predictions and pseudo-labels, in the formats of the stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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
from pipeline.memory import joined
from pipeline.models.spec import model_digest
from pipeline.tasks.classification import TASK

CLASSES = [f"class {number}" for number in range(10)]
LABELED_EVERY = 100
SIDE, NUM_FEATURES, ROWS_PER_SHARD, LABELS = 4, 8, 10_000, 500


def write_images(folder: Path, part: str, count: int, rows_per_shard: int) -> None:
    """A prepared folder and its features: `count` images, with labels but in `unlabeled`."""
    draw = np.random.default_rng(len(part))
    centres = np.random.default_rng(0).normal(size=(len(CLASSES), NUM_FEATURES))
    images, features = folder / "prepared" / part, folder / "features" / part
    images.mkdir(parents=True)
    png = [encode_png(np.full((SIDE, SIDE, 1), 20 * k, np.uint8)) for k in range(len(CLASSES))]
    entries, beside = [], []
    for number, start in enumerate(range(0, count, rows_per_shard)):
        rows = min(rows_per_shard, count - start)
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


def many_said(count: int, seed: int, guessed: NDArray[Any]) -> NDArray[np.float32]:
    """The same of any number of images, as what a stage has measured lies on disk."""
    starts = range(0, count, ROWS_PER_SHARD)
    parts = (guessed[start : start + ROWS_PER_SHARD] for start in starts)
    return joined(said_of(len(part), seed + n, part) for n, part in enumerate(parts))


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


def remembered(first: int, count: int) -> Any:
    """What prepare's tasks return of images, one in LABELED_EVERY labelled: RECORD_SCHEMA."""
    from pipeline.data.preparation.records import NO_SPLIT, RECORD_SCHEMA

    digests = np.random.default_rng(first).integers(0, 256, (3, count, 16), np.uint8)
    rows = np.arange(first, first + count)
    numbers = np.where(rows % LABELED_EVERY == 0, rows // LABELED_EVERY % len(CLASSES), -1)
    values: list[Any] = [
        *([row.tobytes() for row in each] for each in digests),
        numbers,
        numbers,
        [[number] if number >= 0 else [] for number in numbers.tolist()],
        np.full(count, NO_SPLIT),
        [None] * count,
    ]
    arrays = [pa.array(v, item.type) for v, item in zip(values, RECORD_SCHEMA, strict=True)]
    return pa.table(arrays, RECORD_SCHEMA)


def write_all(folder: Path, count: int, rows_per_shard: int = ROWS_PER_SHARD) -> None:
    """What the steps go through: `count` unlabelled and as many test images, and LABELS labels."""
    from pipeline.data.preparation.shard_writer import write_rows

    write_body(folder / "features" / "body")
    for part in ("unlabeled", "many_labeled", "test"):
        write_images(folder, part, count, rows_per_shard)
    for part in ("labeled", "validation"):
        write_images(folder, part, LABELS, rows_per_shard)
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
