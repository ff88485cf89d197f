from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.data.distributions import Distributions, distribution_columns
from pipeline.data.predictions import (
    Predictions,
    predictions_table,
    pseudo_labels_table,
    read_predictions,
    read_pseudo_labels,
)
from pipeline.data.shards import shard_name, write_manifest, write_shard
from pipeline.errors import DataError
from tests.tiny import TASK

LOG_PROBS = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3]], np.float32))


def example(number: int = 0) -> Predictions:
    ids = [f"image_{number}_{row}" for row in range(3)]
    return Predictions(ids, np.full(3, number, np.int32), np.arange(3, dtype=np.int32), LOG_PROBS)


def write_labels(out: Path, repeats: list[list[int]], kind: str) -> None:
    entries = []
    for number, counts in enumerate(repeats):
        table = pseudo_labels_table(
            predictions_table(example(number).ids, number, TASK.prediction_columns(LOG_PROBS)),
            np.array([0, 2, 1], np.int32),
            np.array([0.7, 0.8, 0.4], np.float32),
            np.array(counts, np.int32),
            pa.array(["kept", "kept", "below_threshold"]),
            distribution_columns(Distributions(3, np.exp(LOG_PROBS)), "probabilities"),
        )
        entries.append(write_shard(out / shard_name(number), table))
    write_manifest(out, entries, {"num_classes": 3, "label_kind": kind})


def test_predictions_come_back_in_half_precision(tmp_path: Path) -> None:
    entries = [
        write_shard(
            tmp_path / shard_name(number),
            predictions_table(example(number).ids, number, TASK.prediction_columns(LOG_PROBS)),
        )
        for number in range(2)
    ]
    write_manifest(tmp_path, entries, {"num_classes": 3})
    first, second = read_predictions(tmp_path, TASK)
    assert first.ids == example(0).ids
    assert second.shard.tolist() == [1, 1, 1]
    assert second.row.tolist() == [0, 1, 2]
    assert first.values.dtype == np.float32
    np.testing.assert_array_equal(first.values, LOG_PROBS.astype(np.float16))


def test_strangers_come_back_where_somebody_looked(tmp_path: Path) -> None:
    found = np.array([True, False, True])
    ids = example(0).ids
    tables = [
        predictions_table(ids, 0, TASK.prediction_columns(LOG_PROBS), strangers=found),
        predictions_table(ids, 1, TASK.prediction_columns(LOG_PROBS)),
    ]
    entries = [
        write_shard(tmp_path / shard_name(number), part) for number, part in enumerate(tables)
    ]
    write_manifest(tmp_path, entries, {"num_classes": 3})
    first, second = read_predictions(tmp_path, TASK)
    assert first.strangers is not None
    assert first.strangers.tolist() == found.tolist()
    assert second.strangers is None


def test_a_column_of_strangers_of_another_kind_is_refused(tmp_path: Path) -> None:
    table = predictions_table(example(0).ids, 0, TASK.prediction_columns(LOG_PROBS))
    table = table.append_column("stranger", pa.array([0, 1, 0]))
    entries = [write_shard(tmp_path / shard_name(0), table)]
    write_manifest(tmp_path, entries, {"num_classes": 3})
    with pytest.raises(DataError, match="'stranger' is int64"):
        list(read_predictions(tmp_path, TASK))


def test_each_image_counts_as_often_as_it_is_repeated(tmp_path: Path) -> None:
    write_labels(tmp_path, [[2, 0, 1], [0, 3, 0]], "soft")
    labels = read_pseudo_labels(tmp_path, TASK)
    assert labels.shard.tolist() == [0, 0, 0, 1, 1, 1]
    assert labels.row.tolist() == [0, 0, 2, 1, 1, 1]
    np.testing.assert_allclose(labels.targets, np.exp(LOG_PROBS)[[0, 0, 2, 1, 1, 1]], atol=1e-3)
    np.testing.assert_allclose(labels.targets.sum(axis=1), 1, rtol=1e-6)


def test_hard_targets_are_the_label(tmp_path: Path) -> None:
    write_labels(tmp_path, [[1, 2, 0]], "hard")
    assert read_pseudo_labels(tmp_path, TASK).targets.tolist() == np.eye(3)[[0, 2, 2]].tolist()


@pytest.mark.parametrize("repeats", [[], [[0, 0, 0]]])
def test_none_kept_is_none_to_train_on(tmp_path: Path, repeats: list[list[int]]) -> None:
    write_labels(tmp_path, repeats, "soft")
    labels = read_pseudo_labels(tmp_path, TASK)
    assert labels.targets.shape == (0, 3)
    assert len(labels.row) == len(labels.shard) == 0


@pytest.mark.parametrize(
    "metadata", [{}, {"num_classes": 3}, {"num_classes": 3, "label_kind": "firm"}]
)
def test_a_manifest_that_does_not_say_the_kind_is_refused(
    tmp_path: Path, metadata: dict[str, object]
) -> None:
    write_labels(tmp_path, [[1, 1, 1]], "soft")
    write_manifest(tmp_path, [], metadata)
    with pytest.raises(DataError, match="label_kind"):
        read_pseudo_labels(tmp_path, TASK)


def test_an_altered_shard_is_refused(tmp_path: Path) -> None:
    write_labels(tmp_path, [[1, 1, 1]], "soft")
    path = tmp_path / shard_name(0)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="shard_00000"):
        read_pseudo_labels(tmp_path, TASK)
