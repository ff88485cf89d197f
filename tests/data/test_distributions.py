from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from pipeline.data.distributions import (
    MOST_WHOLE,
    TOP,
    Column,
    Distributions,
    as_stored,
    distribution_columns,
    read_distributions,
)
from pipeline.data.predictions import predictions_table, read_predictions, read_some_predictions
from pipeline.data.shards import shard_name, write_manifest, write_shard
from pipeline.errors import DataError
from pipeline.tasks.classification import TASK


def log_probs(count: int, classes: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(classes)
    weights = np.exp(generator.normal(0, 4, (count, classes)))
    shares: NDArray[np.float32] = np.log(weights / weights.sum(axis=1, keepdims=True))
    return shares.astype(np.float32)


def read_back(values: Distributions, column: Column = "log_probs") -> Distributions:
    table = pa.table(distribution_columns(values, column))
    return read_distributions(table, values.num_classes, column, "here")


@pytest.mark.parametrize("classes", [2, MOST_WHOLE])
def test_few_classes_are_stored_whole(classes: int) -> None:
    values = log_probs(9, classes)
    back = read_back(as_stored(values))
    np.testing.assert_array_equal(back.dense(), values.astype(np.float16))
    assert back.labels.tolist() == values.astype(np.float16).argmax(axis=1).tolist()


@pytest.mark.parametrize("classes", [MOST_WHOLE + 1, 1000])
def test_of_many_the_likeliest_are_stored_and_the_others_share_the_rest(classes: int) -> None:
    values = log_probs(9, classes)
    table = pa.table(distribution_columns(as_stored(values), "log_probs"))
    assert table.nbytes < 9 * (TOP * 6 + 2) + 64
    dense = read_distributions(table, classes, "log_probs", "here").dense()
    for row, found in zip(values, dense, strict=True):
        likeliest = np.argsort(-row.astype(np.float16), kind="stable")[:TOP]
        np.testing.assert_array_equal(found[likeliest], row[likeliest].astype(np.float16))
        others = np.delete(np.arange(classes), likeliest)
        rest = np.exp(row[others]).sum() / len(others)
        np.testing.assert_allclose(np.exp(found[others]), rest, rtol=5e-3)
    np.testing.assert_allclose(np.exp(dense).sum(axis=1), 1, rtol=5e-3)


def test_probabilities_come_back_too() -> None:
    stored = as_stored(log_probs(5, 500))
    assert stored.others is not None
    chances = Distributions(500, np.exp(stored.values), stored.classes, np.exp(stored.others))
    back = read_back(chances, "probabilities")
    np.testing.assert_allclose(back.dense(), chances.dense(), rtol=2e-3, atol=1e-7)


def test_a_folder_of_predictions_of_many_classes_reads_as_one_of_few(tmp_path: Path) -> None:
    values = log_probs(6, 400)
    entries = [
        write_shard(
            tmp_path / shard_name(number),
            predictions_table(["a", "b", "c"], number, TASK.prediction_columns(values[part])),
        )
        for number, part in enumerate((slice(0, 3), slice(3, 6)))
    ]
    write_manifest(tmp_path, entries, {"num_classes": 400})
    expected = as_stored(values).dense()
    found = np.concatenate([shard.values for shard in read_predictions(tmp_path, TASK)])
    np.testing.assert_allclose(found, expected, atol=4e-3)
    np.testing.assert_array_equal(read_some_predictions(tmp_path, [4, 0], TASK), found[[4, 0]])


def test_a_class_that_is_none_is_refused() -> None:
    table = pa.table(distribution_columns(as_stored(log_probs(20, 400)), "log_probs"))
    with pytest.raises(DataError, match="here: 'classes' must be 0 to 256"):
        read_distributions(table, 257, "log_probs", "here")


def test_of_equally_likely_classes_the_first_is_the_label_however_many_there_are() -> None:
    for classes in (10, 400):
        values = log_probs(4, classes)
        values[:, [7, 3]] = values.max(axis=1, keepdims=True)
        stored = as_stored(values)
        assert stored.labels.tolist() == stored.dense().argmax(axis=1).tolist()
        assert (stored.labels <= 3).all()
