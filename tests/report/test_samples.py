"""Sheets of images as training sees them, from prepared shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.data.encoding import encode_png
from pipeline.data.shards import IMAGE_SCHEMA, write_manifest, write_shard
from pipeline.params import AugmentParams
from pipeline.report.samples import labeled_samples, pseudo_labeled_samples, write_samples
from tests.tiny import TASK

SIZE = 8


def shards(folder: Path, values: list[list[int]], label: int | None = None) -> Path:
    """Shards of images of one grey value each; their labels are value // 100 unless given."""
    entries = []
    for number, part in enumerate(values):
        rows = [
            {
                "id": f"{number}-{row}",
                "image": encode_png(np.full((SIZE, SIZE, 1), value, np.uint8)),
                "label": value // 100 if label is None else label,
            }
            for row, value in enumerate(part)
        ]
        table = pa.Table.from_pylist(rows, IMAGE_SCHEMA)
        entries.append(write_shard(folder / f"shard_{number:05}.parquet", table))
    write_manifest(folder, entries, {"channels": 1, "image_size": SIZE})
    return folder


def pseudo_labels(folder: Path) -> Path:
    """Nothing kept of the first shard, two images of the second."""
    columns = ("shard", "row", "label", "confidence", "repeats")
    parts = [
        [(0, 0, 1, 0.4, 0), (0, 1, 1, 0.4, 0)],
        [(1, 0, 0, 0.9, 0), (1, 1, 1, 0.75, 2), (1, 2, 0, 0.99, 1)],
    ]
    entries = []
    for number, rows in enumerate(parts):
        table = pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows])
        entries.append(write_shard(folder / f"shard_{number:05}.parquet", table))
    write_manifest(folder, entries, {"label_kind": "soft", "num_classes": 2})
    return folder


def test_labelled_samples_take_the_classes_in_turn(tmp_path: Path) -> None:
    folder = shards(tmp_path / "labeled", [[10, 20, 110, 30], [120]])
    images, captions, _ = labeled_samples(folder, ["cat", "dog"], TASK)
    assert captions == ["cat", "dog", "cat", "cat"]
    assert images[:, 0, 0, 0].tolist() == [10, 110, 20, 30]


def test_pseudo_labelled_samples_are_images_that_count(tmp_path: Path) -> None:
    unlabeled = shards(tmp_path / "unlabeled", [[1, 2], [3, 4, 5]], label=-1)
    folder = pseudo_labels(tmp_path / "pseudo_labels")
    images, captions, _ = pseudo_labeled_samples(folder, unlabeled, ["cat", "dog"], TASK)
    assert captions == ["cat 99%", "dog 75%"]
    assert images[:, 0, 0, 0].tolist() == [5, 4]


def drawn(folder: Path, labels: Path) -> list[Path]:
    shards(folder / "labeled", [[10, 20, 110]])
    shards(folder / "unlabeled", [[1, 2], [3, 4, 5]], label=-1)
    names, augment = ["cat", "dog"], AugmentParams()
    return write_samples(folder / "out", folder, labels, names, augment, seed=3, task=TASK)


def test_the_sheets_are_drawn(tmp_path: Path) -> None:
    paths = drawn(tmp_path, pseudo_labels(tmp_path / "pseudo_labels"))
    assert [path.name for path in paths] == ["samples_labeled.png", "samples_pseudo_labeled.png"]
    for path in paths:
        sheet = np.asarray(Image.open(path))
        assert len(np.unique(sheet)) > 5


def test_without_an_unlabelled_image_the_labelled_are_drawn(tmp_path: Path) -> None:
    write_manifest(tmp_path / "none", [], {"label_kind": "soft", "num_classes": 2})
    paths = drawn(tmp_path, tmp_path / "none")
    assert [path.name for path in paths] == ["samples_labeled.png"]
