"""Streamed images against the same images in memory."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.data.blocks import PseudoLabelReader
from pipeline.data.predictions import read_pseudo_labels
from pipeline.data.shards import read_manifest
from pipeline.data.sources import Row
from pipeline.data.storage import StoredFolder
from pipeline.data.streamed import ShardStream
from pipeline.data.tensors import load_images
from pipeline.errors import DataError
from tests.data.helpers import ListSource, encoded, ids, noise, run_prepare
from tests.tiny import TASK, prepared_stripes
from tests.train.test_inputs import write_pseudo_labels

WHOLE = slice(0, None, 1)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streamed")
    return prepared_stripes(folder / "prepared", 700, images_per_shard=150)


def test_each_image_comes_once_an_epoch_with_its_own_row(prepared: Path) -> None:
    folder = prepared / "unlabeled"
    all_images = load_images(folder).images
    stream = ShardStream(folder, window=128)
    count = len(all_images)
    assert len(stream) == count > 256
    rows = []
    for step in range(-(-2 * count // 50)):
        drawn = stream.batch(step, 50, 7, WHOLE)
        assert torch.equal(drawn.images, all_images[drawn.rows])
        assert drawn.targets is None
        rows += drawn.rows.tolist()
    assert sorted(rows[:count]) == sorted(rows[count : 2 * count]) == list(range(count))


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_any_number_of_workers_at_any_step_draws_the_same_global_batches(
    prepared: Path, world_size: int
) -> None:
    folder = prepared / "unlabeled"
    alone = ShardStream(folder, window=128)
    batches = {step: alone.batch(step, 20, 7, WHOLE).rows for step in range(60)}
    for rank in range(world_size):
        stream = ShardStream(folder, window=128, threads=2)
        part = slice(rank, None, world_size)
        for step in (0, 1, 5, 6, 30, 59, 2):  # forward, far ahead and back, as a resumed run
            drawn = stream.batch(step, 20, 7, part)
            assert drawn.rows.tolist() == batches[step][part].tolist()


def test_pseudo_labels_come_with_their_images_as_often_as_they_count(
    prepared: Path, tmp_path: Path
) -> None:
    folder = prepared / "unlabeled"
    names = ids(prepared, "unlabeled")
    repeats = {name: place % 4 for place, name in enumerate(names) if place % 3}
    write_pseudo_labels(prepared, tmp_path, repeats)
    chosen, all_images = read_pseudo_labels(tmp_path, TASK), load_images(folder).images
    starts = np.cumsum([0, *(entry.rows for entry in read_manifest(folder).shards)])
    expected = {
        int(starts[shard] + row): target
        for shard, row, target in zip(chosen.shard, chosen.row, chosen.targets, strict=True)
    }
    stream = ShardStream(folder, window=100, pseudo_labels=PseudoLabelReader(tmp_path, TASK))
    assert len(stream) == len(chosen.row)
    rows: list[int] = []
    for step in range(len(stream)):
        drawn = stream.batch(step, 1, 7, WHOLE)
        assert drawn.targets is not None
        (row,) = drawn.rows.tolist()
        np.testing.assert_array_equal(drawn.targets[0], expected[row])
        assert torch.equal(drawn.images[0], all_images[row])
        rows.append(row)
    assert np.bincount(rows, minlength=len(names)).tolist() == [
        repeats.get(name, 0) for name in names
    ]
    assert len(stream.every_image) == len(names)


def test_pseudo_labels_of_other_images_are_refused(prepared: Path, tmp_path: Path) -> None:
    other = prepared_stripes(tmp_path / "other", 90)
    write_pseudo_labels(other, tmp_path / "chosen", {})
    stream = ShardStream(
        prepared / "unlabeled",
        window=64,
        pseudo_labels=PseudoLabelReader(tmp_path / "chosen", TASK),
    )
    with pytest.raises(DataError, match="not of the prepared images"):
        len(stream)


def test_shards_in_storage_stream_as_those_here(prepared: Path, tmp_path: Path) -> None:
    storage = StoredFolder((tmp_path / "shared").as_uri())
    stored = prepared_stripes(tmp_path / "prepared", 700, images_per_shard=150, storage=storage)
    here = ShardStream(prepared / "unlabeled", window=128)
    there = ShardStream(stored / "unlabeled", window=128)
    for step in (0, 9):
        first, second = (stream.batch(step, 30, 1, WHOLE) for stream in (here, there))
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.rows, second.rows)
    (tmp_path / "shared").rename(tmp_path / "gone")
    with pytest.raises(DataError, match="missing"):
        ShardStream(stored / "unlabeled", window=64).batch(0, 4, 1, WHOLE)


def test_a_shard_that_is_cut_is_one_line(tmp_path: Path) -> None:
    folder = prepared_stripes(tmp_path, 200) / "unlabeled"
    stream = ShardStream(folder, window=64)
    path = folder / read_manifest(folder).shards[2].file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="shard_00002") as caught:
        stream.batch(0, len(stream), 1, WHOLE)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_of_an_image_is_one_line(tmp_path: Path) -> None:
    flip_and_stream(prepared_stripes(tmp_path, 200) / "unlabeled", b"IDAT")


def test_a_flipped_bit_of_a_photograph_is_one_line(tmp_path: Path) -> None:
    photos = [encoded(noise(number, 104, 3), "JPEG", quality=50) for number in range(40)]
    rows = [Row(str(number), data, number % 2, None) for number, data in enumerate(photos)]
    run_prepare(ListSource(rows), tmp_path, image_size=96, channels=3)
    flip_and_stream(tmp_path / "labeled", b"crc32")


def flip_and_stream(folder: Path, mark: bytes) -> None:
    path = folder / read_manifest(folder).shards[0].file
    data = bytearray(path.read_bytes())
    data[data.index(mark) + 1500] ^= 4
    path.write_bytes(data)
    stream = ShardStream(folder, window=64)
    with pytest.raises(DataError, match="an image can't be decoded"):
        stream.batch(0, len(stream), 1, WHOLE)
