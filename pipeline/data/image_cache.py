"""Decoded images that the workers of one node share: decoded once, by one of them, to a file."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from pipeline.data.shards import manifest_digest, read_manifest
from pipeline.data.tensors import GIB, load_images, stored_shape
from pipeline.errors import DataError
from pipeline.files import written_whole


def mapped_images(
    folder: Path, cache: Path, *, threads: int, cache_gib: float
) -> tuple[Tensor, Tensor]:
    """The images (N, C, S, S) uint8 and labels (N,) int64 of a prepared folder, as load_images.

    The images are mapped into memory from a file in `cache`, named by the digest of the folder's
    manifest, which the first process to come makes while the others wait. Raises DataError as
    load_images does, and where `cache` has no room.
    """
    manifest = read_manifest(folder)
    if not manifest.rows:
        empty = load_images(folder, threads=threads)
        return empty.images, empty.labels
    cache.mkdir(parents=True, exist_ok=True)
    name = manifest_digest(folder)
    images, labels = cache / f"{name}.images.npy", cache / f"{name}.labels.npy"
    with FileLock(cache / f"{name}.lock"):
        if not images.exists():
            shape = (manifest.rows, *stored_shape(folder, manifest))
            _check_room(cache, int(np.prod(shape)))
            _decode(folder, images, labels, threads, cache_gib)
    # Copy on write: torch wants to be allowed to write, and then writes to a copy of its own.
    mapped = torch.from_numpy(np.load(images, mmap_mode="c", allow_pickle=False))
    return mapped, torch.from_numpy(np.load(labels, allow_pickle=False))


def _decode(folder: Path, images: Path, labels: Path, threads: int, cache_gib: float) -> None:
    with written_whole(images) as partial:

        def allocate(shape: tuple[int, ...]) -> Tensor:
            return torch.from_numpy(
                np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
            )

        loaded = load_images(folder, threads=threads, cache_gib=cache_gib, allocate=allocate)
        with written_whole(labels) as beside, beside.open("wb") as file:
            np.save(file, loaded.labels.numpy())


def _check_room(cache: Path, needed: int) -> None:
    """A map of a file that does not fit its disk would end the process, not raise."""
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise DataError(
            f"{cache}: has {free / GIB:.1f} GiB free, but decoded images take "
            f"{needed / GIB:.1f} GiB; set TMPDIR on the nodes to a larger disk"
        )
