from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from pipeline.data.distributions import list_column
from pipeline.data.features import (
    COLUMN,
    StoredFeatures,
    check_features,
    features_metadata,
    features_table,
    load_features,
    read_feature_shard,
)
from pipeline.data.shards import read_manifest, write_manifest, write_shard
from pipeline.data.stored_shards import finish_derived, missing_shards, write_derived
from pipeline.errors import DataError
from tests.tiny import prepared_stripes


def some(rows: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of several shards."""
    return prepared_stripes(tmp_path_factory.mktemp("prepared")) / "unlabeled"


def stored(images: Path, out: Path) -> list[NDArray[np.float32]]:
    """Features of every image, written shard by shard, the last shard first."""
    made: list[NDArray[np.float32]] = []
    for number, entry in reversed(list(enumerate(read_manifest(images).shards))):
        made.insert(0, some(entry.rows, number))
        ids = [f"{number}_{row}" for row in range(entry.rows)]
        write_derived(out, entry.file, features_table(ids, made[0]))
    finish_derived(images, out, features_metadata(images, "body", 5))
    return made


def test_features_come_back_in_order_as_float16(images: Path, tmp_path: Path) -> None:
    made = stored(images, tmp_path)
    assert len(made) > 2
    expected = np.concatenate(made).astype(np.float16)
    np.testing.assert_array_equal(load_features(tmp_path, images), expected)
    second = read_feature_shard(tmp_path, read_manifest(tmp_path), 1)
    np.testing.assert_array_equal(second, made[1].astype(np.float16))


def test_the_same_features_are_the_same_bytes(images: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        stored(images, tmp_path / name)
    one, two = (read_manifest(tmp_path / name) for name in ("one", "two"))
    assert one == two


def test_features_of_other_images_or_none_are_refused(images: Path, tmp_path: Path) -> None:
    stored(images, tmp_path)
    others = prepared_stripes(tmp_path / "others", count=60) / "unlabeled"
    with pytest.raises(DataError, match="of other images than"):
        check_features(tmp_path, others)
    write_manifest(tmp_path / "none", [], {"body": None})
    with pytest.raises(DataError, match=r"no features; set embed\.source"):
        check_features(tmp_path / "none", images)


def test_a_shard_of_another_width_is_refused(images: Path, tmp_path: Path) -> None:
    stored(images, tmp_path)
    manifest = read_manifest(tmp_path)
    write_manifest(tmp_path, manifest.shards, manifest.metadata | {"num_features": 6})
    with pytest.raises(DataError, match="column 'features' is"):
        load_features(tmp_path, images)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_features_that_are_not_finite_are_neither_written_nor_read(
    images: Path, tmp_path: Path, value: float
) -> None:
    wrong = some(3)
    wrong[1, 2] = value
    with pytest.raises(DataError, match="features of 1 of 3 images are not finite"):
        features_table(["a", "b", "c"], wrong)
    stored(images, tmp_path)
    manifest = read_manifest(tmp_path)
    path = tmp_path / manifest.shards[0].file
    with np.errstate(over="ignore"):
        column = np.full((manifest.shards[0].rows, 5), value, np.float16)
    table = pq.read_table(path).set_column(1, COLUMN, [list_column(column)])
    write_manifest(tmp_path, [write_shard(path, table), *manifest.shards[1:]], manifest.metadata)
    with pytest.raises(DataError, match=f"{tmp_path}: features of 16 of 16 images"):
        load_features(tmp_path, images)


def test_what_is_missing_or_cut_is_made_again_and_nothing_else(
    images: Path, tmp_path: Path
) -> None:
    shards = read_manifest(images).shards
    assert missing_shards(images, tmp_path) == list(range(len(shards)))
    stored(images, tmp_path)
    assert missing_shards(images, tmp_path) == []
    (tmp_path / shards[0].file).unlink()
    cut = tmp_path / shards[1].file
    cut.write_bytes(cut.read_bytes()[:-9])
    assert missing_shards(images, tmp_path) == [0, 1]
    with pytest.raises(DataError, match="are missing"):
        finish_derived(images, tmp_path, {})


def test_rows_are_read_from_the_shards_that_hold_them(images: Path, tmp_path: Path) -> None:
    made = np.concatenate(stored(images, tmp_path)).astype(np.float16)
    features = StoredFeatures(tmp_path, images)
    assert len(features) == len(made)
    for rows in ([], [0], [15, 16], [3, 17, 18, len(made) - 1], range(len(made))):
        places = np.array(rows, np.int64)
        np.testing.assert_array_equal(features[places], made[places])
    with pytest.raises(DataError, match="no features"):
        StoredFeatures(images, images)
