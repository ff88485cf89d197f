from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.data.preparation.shard_writer import write_shards
from pipeline.data.shards import IMAGE_SCHEMA, ShardEntry, write_shard
from pipeline.data.tensors import (
    IMAGES_PER_TASK,
    ImageSet,
    decoding_pool,
    load_images,
    read_dataset,
    shard_images,
)
from pipeline.errors import DataError
from tests.data.helpers import encoded, noise, photo


def write(folder: Path, images: list[bytes], channels: int = 1, per_shard: int = 70) -> None:
    rows = [
        {"id": f"i{n}", "image": data, "label": None if n % 3 == 0 else n % 3}
        for n, data in enumerate(images)
    ]
    shape = {"channels": channels, "image_size": 8}
    write_shards(folder, rows, IMAGE_SCHEMA, rows_per_shard=per_shard, metadata=shape)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_decoded_in_order(tmp_path: Path, channels: int) -> None:
    pixels = [noise(n, 8, channels) for n in range(150)]
    write(tmp_path, [encoded(array) for array in pixels], channels)
    loaded = load_images(tmp_path, threads=2)
    assert loaded.images.dtype == torch.uint8
    assert (loaded.images.numpy() == np.stack(pixels).transpose(0, 3, 1, 2)).all()
    assert len(loaded) == 150
    assert loaded.targets.tolist() == [-1 if n % 3 == 0 else n % 3 for n in range(150)]
    with decoding_pool(1) as pool:
        one = shard_images(tmp_path / "shard_00001.parquet", (channels, 8, 8), pool)
        assert len(one) == 70
        assert torch.equal(one[:], loaded.images[70:140])


@pytest.mark.parametrize("batch", [1, 7, 64, 100, 1000])
def test_a_slice_is_whole_whenever_it_is_looked_at(tmp_path: Path, batch: int) -> None:
    count = 3 * IMAGES_PER_TASK + 5
    write(tmp_path, [encoded(noise(n)) for n in range(count)], per_shard=count)
    whole = load_images(tmp_path).images
    with decoding_pool(2) as pool:
        images = shard_images(tmp_path / "shard_00000.parquet", (1, 8, 8), pool)
        for start in reversed(range(0, count, batch)):
            assert torch.equal(images[start : start + batch], whole[start : start + batch])
        assert images[count:].shape == (0, 1, 8, 8)


def test_what_comes_before_a_bad_image_can_be_used(tmp_path: Path) -> None:
    good = [encoded(noise(n)) for n in range(2 * IMAGES_PER_TASK)]
    write(tmp_path, [*good, b"no picture"], per_shard=1000)
    with decoding_pool(1) as pool:
        images = shard_images(tmp_path / "shard_00000.parquet", (1, 8, 8), pool)
        assert len(images[: 2 * IMAGES_PER_TASK]) == 2 * IMAGES_PER_TASK
        with pytest.raises(DataError, match=r"shard_00000\.parquet: an image can't be decoded"):
            images[:]


def test_kept_jpegs_are_read(tmp_path: Path) -> None:
    write(tmp_path, [encoded(photo(8, 8), "JPEG", quality=95)], channels=3)
    image = load_images(tmp_path).images[0].permute(1, 2, 0).numpy()
    assert np.abs(image.astype(float) - np.asarray(photo(8, 8))).mean() < 12


def test_an_empty_folder_is_an_empty_set(tmp_path: Path) -> None:
    write(tmp_path, [])
    for loaded in (load_images(tmp_path), mapped(tmp_path, tmp_path / "cache")):
        assert loaded.images.shape == (0, 1, 8, 8)
        assert len(loaded) == 0


def test_images_beyond_the_cache_are_refused(tmp_path: Path) -> None:
    write(tmp_path, [encoded(noise(n)) for n in range(20)])
    with pytest.raises(DataError, match=r"train\.cache_gib = 1e-06"):
        load_images(tmp_path, cache_gib=1e-6)


@pytest.mark.parametrize("bad", [b"", b"no picture", encoded(noise(0, 9)), encoded(noise(0))[:50]])
def test_an_image_that_is_not_as_stored_is_a_data_error(tmp_path: Path, bad: bytes) -> None:
    write(tmp_path, [encoded(noise(1)), bad])
    with pytest.raises(DataError, match=r"shard_00000\.parquet: an image can't be decoded"):
        load_images(tmp_path)


def test_a_flipped_bit_is_a_data_error(tmp_path: Path) -> None:
    write(tmp_path, [encoded(noise(n)) for n in range(20)])
    path = tmp_path / "shard_00000.parquet"
    data = bytearray(path.read_bytes())
    data[500] ^= 4
    path.write_bytes(data)
    with pytest.raises(DataError, match="not the bytes"):
        load_images(tmp_path)


def test_a_folder_of_other_shards_is_a_data_error(tmp_path: Path) -> None:
    schema = pa.schema([("id", pa.string())])
    write_shards(tmp_path, [{"id": "a"}], schema, rows_per_shard=4)
    with pytest.raises(DataError, match="channels and image_size"):
        load_images(tmp_path)
    entry = write_shard(tmp_path / "shard_00001.parquet", pa.table({"id": ["a"]}))
    assert isinstance(entry, ShardEntry)
    with decoding_pool(1) as pool:
        with pytest.raises(DataError, match="image"):
            shard_images(tmp_path / entry.file, (1, 8, 8), pool)
        write_shard(tmp_path / entry.file, pa.table({"image": ["text"]}))
        with pytest.raises(DataError, match="column 'image' is string"):
            shard_images(tmp_path / entry.file, (1, 8, 8), pool)


def mapped(folder: Path, cache: Path) -> ImageSet:
    """The images of a folder from a cache that the processes of a node share."""
    return load_images(folder, cache=cache, cache_gib=1.0)


def test_images_and_labels_are_those_decoded_alone(tmp_path: Path) -> None:
    folder, cache = tmp_path / "images", tmp_path / "cache"
    write(folder, [encoded(noise(n)) for n in range(150)])
    alone = load_images(folder)
    for _ in range(2):  # made, then found
        loaded = mapped(folder, cache)
        assert loaded.images.dtype == torch.uint8
        assert torch.equal(loaded.images, alone.images)
        assert torch.equal(loaded.targets, alone.targets)


def test_what_is_there_is_mapped_and_not_decoded_again(tmp_path: Path) -> None:
    folder, cache = tmp_path / "images", tmp_path / "cache"
    write(folder, [encoded(noise(n)) for n in range(20)])
    first = mapped(folder, cache).images
    for shard in folder.glob("*.parquet"):
        shard.unlink()
    again = mapped(folder, cache).images
    assert torch.equal(again, first)
    again += 1  # a writer writes to its own copy
    assert torch.equal(mapped(folder, cache).images, first)


def test_other_images_have_another_file(tmp_path: Path) -> None:
    for seed in (0, 1):
        write(tmp_path / f"{seed}", [encoded(noise(seed))])
        images = mapped(tmp_path / f"{seed}", tmp_path).images
        assert torch.equal(images, load_images(tmp_path / f"{seed}").images)
    assert len(list(tmp_path.glob("*.images.npy"))) == 2


def test_a_folder_that_fails_leaves_nothing_to_be_found(tmp_path: Path) -> None:
    folder, cache = tmp_path / "images", tmp_path / "cache"
    write(folder, [encoded(noise(1)), b"no picture"])
    for _ in range(2):
        with pytest.raises(DataError, match="can't be decoded"):
            mapped(folder, cache)
    assert not list(cache.glob("*.npy")) + list(cache.glob("*.partial"))
    with pytest.raises(DataError, match=r"train\.cache_gib"):
        load_images(folder, cache=cache, cache_gib=1e-9)


def test_no_room_is_said_before_a_byte_is_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "images", [encoded(noise(1))])
    monkeypatch.setattr("pipeline.data.tensors.shutil.disk_usage", lambda path: _Full())
    with pytest.raises(DataError, match=r"GiB free.*set TMPDIR"):
        mapped(tmp_path / "images", tmp_path / "cache")


class _Full:
    free = 63


def test_of_threads_that_come_at_once_one_decodes(tmp_path: Path) -> None:
    folder, cache = tmp_path / "images", tmp_path / "cache"
    write(folder, [encoded(noise(n)) for n in range(300)])

    def inode(_: int) -> int:
        mapped(folder, cache)
        (path,) = cache.glob("*.images.npy")
        return path.stat().st_ino

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(inode, range(4)))) == 1


DATASET = {
    "source": "digits",
    "classes": ["a", "b"],
    "image_size": 8,
    "channels": 1,
    "mean": [0.5],
    "std": [0.25],
    "seed": 0,
    "bits": 16,
}


def test_dataset_file_is_read_and_checked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        read_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps(DATASET))
    assert read_dataset(tmp_path).classes == ("a", "b")
    for wrong in ({"mean": [0.5, 0.5]}, {"classes": None}, {"seed": "x"}):
        (tmp_path / "dataset.json").write_text(json.dumps(DATASET | wrong))
        with pytest.raises(DataError, match=r"dataset\.json"):
            read_dataset(tmp_path)
