"""Decoded images that processes share: as decoded alone, made once, whole or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from pipeline.data.image_cache import mapped_images
from pipeline.data.tensors import load_images
from pipeline.errors import DataError
from tests.data.helpers import encoded, noise
from tests.data.test_tensors import write


def test_images_and_labels_are_those_decoded_alone(tmp_path: Path) -> None:
    folder, cache = tmp_path / "images", tmp_path / "cache"
    write(folder, [encoded(noise(n)) for n in range(150)])
    alone = load_images(folder)
    for _ in range(2):  # made, then found
        images, labels = mapped_images(folder, cache, threads=2, cache_gib=1.0)
        assert images.dtype == torch.uint8
        assert torch.equal(images, alone.images)
        assert torch.equal(labels, alone.labels)


def test_what_is_there_is_mapped_and_not_decoded_again(tmp_path: Path) -> None:
    folder, cache = tmp_path / "images", tmp_path / "cache"
    write(folder, [encoded(noise(n)) for n in range(20)])
    first, _ = mapped_images(folder, cache, threads=1, cache_gib=1.0)
    for shard in folder.glob("*.parquet"):
        shard.unlink()
    again, _ = mapped_images(folder, cache, threads=1, cache_gib=1.0)
    assert torch.equal(again, first)
    again += 1  # a writer writes to its own copy
    assert torch.equal(mapped_images(folder, cache, threads=1, cache_gib=1.0)[0], first)


def test_other_images_have_another_file(tmp_path: Path) -> None:
    for seed in (0, 1):
        write(tmp_path / f"{seed}", [encoded(noise(seed))])
        images, _ = mapped_images(tmp_path / f"{seed}", tmp_path, threads=1, cache_gib=1.0)
        assert torch.equal(images, load_images(tmp_path / f"{seed}").images)
    assert len(list(tmp_path.glob("*.images.npy"))) == 2


def test_a_folder_that_fails_leaves_nothing_to_be_found(tmp_path: Path) -> None:
    folder, cache = tmp_path / "images", tmp_path / "cache"
    write(folder, [encoded(noise(1)), b"no picture"])
    for _ in range(2):
        with pytest.raises(DataError, match="can't be decoded"):
            mapped_images(folder, cache, threads=1, cache_gib=1.0)
    assert not list(cache.glob("*.npy")) + list(cache.glob("*.partial"))
    with pytest.raises(DataError, match=r"train\.cache_gib"):
        mapped_images(folder, cache, threads=1, cache_gib=1e-9)


def test_no_room_is_said_before_a_byte_is_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "images", [encoded(noise(1))])
    monkeypatch.setattr("pipeline.data.image_cache.shutil.disk_usage", lambda path: _Full())
    with pytest.raises(DataError, match=r"GiB free.*set TMPDIR"):
        mapped_images(tmp_path / "images", tmp_path / "cache", threads=1, cache_gib=1.0)


class _Full:
    free = 63


def test_an_empty_folder_is_an_empty_set(tmp_path: Path) -> None:
    write(tmp_path, [])
    images, labels = mapped_images(tmp_path, tmp_path / "cache", threads=1, cache_gib=1.0)
    assert images.shape == (0, 1, 8, 8)
    assert len(labels) == 0


def test_of_threads_that_come_at_once_one_decodes(tmp_path: Path) -> None:
    folder, cache = tmp_path / "images", tmp_path / "cache"
    write(folder, [encoded(noise(n)) for n in range(300)])

    def inode(_: int) -> int:
        mapped_images(folder, cache, threads=1, cache_gib=1.0)
        (path,) = cache.glob("*.images.npy")
        return path.stat().st_ino

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(inode, range(4)))) == 1
