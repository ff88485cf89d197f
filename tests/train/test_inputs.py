from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.data.distributions import Distributions, distribution_columns
from pipeline.data.predictions import predictions_table, pseudo_labels_table
from pipeline.data.shards import iter_shards, read_manifest, write_manifest, write_shard
from pipeline.data.tensors import load_images, read_dataset
from pipeline.errors import DataError
from pipeline.tasks.classification import TASK
from pipeline.train.inputs import training_data
from pipeline.train.training_data import TrainingData
from tests.data.helpers import ids
from tests.tiny import prepared_stripes


def write_pseudo_labels(prepared: Path, out: Path, repeats: Mapping[str, int]) -> None:
    """Pseudo-labels of class (row mod 3); an id that `repeats` lacks is not kept."""
    manifest = read_manifest(prepared / "unlabeled")
    entries = []
    tables = iter_shards(prepared / "unlabeled", ["id"])
    for number, (entry, shard) in enumerate(zip(manifest.shards, tables, strict=True)):
        ids = shard.column("id").to_pylist()
        rows = np.arange(entry.rows, dtype=np.int32)
        probabilities = np.eye(3, dtype=np.float32)[rows % 3] * 0.7 + 0.1
        table = predictions_table(ids, number, TASK.prediction_columns(np.log(probabilities)))
        counts = np.array([repeats.get(identity, 0) for identity in ids], np.int32)
        labels, sure = (rows % 3).astype(np.int32), probabilities.max(axis=1)
        entries.append(
            write_shard(
                out / entry.file,
                pseudo_labels_table(
                    table,
                    labels,
                    sure,
                    counts,
                    pa.array(["kept"] * len(ids), pa.string()),
                    distribution_columns(Distributions(3, probabilities), "probabilities"),
                ),
            )
        )
    write_manifest(out, entries, {"num_classes": 3, "label_kind": "soft"})


def load(prepared: Path, pseudo_labels: Path | None = None, **changes: Any) -> TrainingData:
    return training_data(prepared, pseudo_labels, **({"threads": 1, "cache_gib": 1.0} | changes))


def test_a_teacher_trains_on_the_labelled_images(tmp_path: Path) -> None:
    prepared = prepared_stripes(tmp_path)
    data = load(prepared)
    labeled, validation = (load_images(tmp_path / name) for name in ("labeled", "validation"))
    assert torch.equal(data.images, labeled.images)
    assert torch.equal(data.labels, labeled.targets)
    assert data.validation_images is not None
    assert torch.equal(data.validation_images, validation.images)
    assert (data.mean, data.std) == (read_dataset(prepared).mean, read_dataset(prepared).std)
    assert data.unlabeled_images is None
    assert data.unlabeled_rows is None


def test_without_validation_images_there_are_none(tmp_path: Path) -> None:
    data = load(prepared_stripes(tmp_path, validation_fraction=0.0))
    assert data.validation_images is None
    assert data.validation_labels is None


def test_each_pseudo_label_points_at_its_own_image_as_often_as_it_counts(tmp_path: Path) -> None:
    prepared = prepared_stripes(tmp_path / "prepared")
    unlabeled = load_images(prepared / "unlabeled")
    shards = read_manifest(prepared / "unlabeled").shards
    assert len(shards) > 1
    names = ids(prepared, "unlabeled")
    chosen = {names[place]: count for place, count in ((1, 2), (17, 1), (30, 3))}
    write_pseudo_labels(prepared, tmp_path / "pseudo", chosen)
    data = load(prepared, tmp_path / "pseudo")
    assert data.unlabeled_images is not None
    assert data.unlabeled_rows is not None
    assert data.unlabeled_targets is not None
    assert torch.equal(data.unlabeled_images, unlabeled.images)
    assert data.unlabeled_rows.tolist() == [1, 1, 17, 30, 30, 30]
    rows = [row for entry in shards for row in range(entry.rows)]
    expected = [rows[place] % 3 for place in (1, 1, 17, 30, 30, 30)]
    assert data.unlabeled_targets.argmax(dim=1).tolist() == expected
    torch.testing.assert_close(data.unlabeled_targets.sum(dim=1), torch.ones(6))


def test_no_pseudo_label_at_all_is_none_to_train_on(tmp_path: Path) -> None:
    prepared = prepared_stripes(tmp_path / "prepared")
    write_pseudo_labels(prepared, tmp_path / "pseudo", {})
    data = load(prepared, tmp_path / "pseudo")
    assert data.unlabeled_rows is not None
    assert len(data.unlabeled_rows) == 0


def test_images_over_the_memory_limit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.cache_gib"):
        load(prepared_stripes(tmp_path), cache_gib=1e-9)
