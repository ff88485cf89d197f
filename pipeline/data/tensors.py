"""Prepared images in memory: decoded once by threads into one uint8 tensor, then indexed.

The workers of one node share what one of them has decoded, in a file that each maps into memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import torch
from filelock import FileLock
from numpy.typing import NDArray
from pydantic import FailFast, Field, TypeAdapter
from torch import Tensor

from pipeline.data.images import BadImageError, Pixels, decode_stored, verify_stored
from pipeline.data.shards import (
    IMAGE_SCHEMA,
    LabelColumn,
    Manifest,
    Shard,
    TargetColumn,
    check_schema,
    manifest_digest,
    read_entry,
    read_manifest,
    read_shard,
)
from pipeline.errors import DataError
from pipeline.files import written_whole
from pipeline.params.errors import read_typed
from pipeline.params.sections import TaskName

DATASET_FILE = "dataset.json"
IMAGES_PER_TASK = 16
GIB = 1 << 30
LARGEST_SIDE = 1 << 14
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Dataset:
    """What `prepare` says of all its images; mean and std per channel, of pixels in 0..1.

    bits: those in use of images that had 16.
    """

    source: str
    classes: Annotated[tuple[str, ...], FailFast()]
    image_size: Annotated[int, Field(ge=1, le=1024)]
    channels: Literal[1, 3]
    mean: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], FailFast()]
    std: Annotated[tuple[Annotated[float, Field(gt=1e-6, le=1)], ...], FailFast()]
    seed: int
    bits: Annotated[int, Field(ge=8, le=16)]
    task: TaskName = "classification"


def read_dataset(folder: Path) -> Dataset:
    """Read `dataset.json` of a prepared folder, or DataError."""
    path = folder / DATASET_FILE
    try:
        dataset = read_typed(path, TypeAdapter(Dataset))
    except FileNotFoundError:
        raise DataError(f"{path}: missing; run the stage prepare") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{path}: not as prepare writes it ({error}); selftrain run") from None
    if not len(dataset.mean) == len(dataset.std) == dataset.channels:
        raise DataError(f"{path}: mean and std need {dataset.channels} numbers each; selftrain run")
    return dataset


class Images(Protocol):
    """Images that are read a slice at a time, (n, C, S, S) uint8, such as a tensor."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Tensor: ...


class DecodedImages:
    """Images (n, C, S, S) that a pool decodes in order, into `pixels`; a slice waits for its own.

    files: the bytes of each, PNG or JPEG; verify: whether their own checksums are compared, where
    nobody has compared a SHA-256. A slice raises DataError, which names `source`, for an image that
    can't be decoded or is of another size.
    """

    def __init__(
        self,
        files: Sequence[bytes],
        pixels: Pixels,
        source: object,
        pool: ThreadPoolExecutor,
        *,
        verify: bool = False,
    ) -> None:
        self._pixels, self._source = pixels, source
        parts = [slice(at, at + IMAGES_PER_TASK) for at in range(0, len(files), IMAGES_PER_TASK)]
        self._tasks = [pool.submit(_decode, files[part], pixels[part], verify) for part in parts]

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, rows: slice, /) -> Tensor:
        start, stop, _ = rows.indices(len(self))
        try:
            for task in self._tasks[start // IMAGES_PER_TASK : -(-stop // IMAGES_PER_TASK)]:
                task.result()
        except BadImageError as error:
            reason = str(error).removeprefix("can't be decoded: ")
            raise DataError(f"{self._source}: an image can't be decoded ({reason})") from None
        return torch.from_numpy(self._pixels[rows])


def _decode(files: Sequence[bytes], pixels: Pixels, verify: bool) -> None:
    for data, place in zip(files, pixels, strict=True):
        if verify:
            verify_stored(data)
        image = decode_stored(data).transpose(2, 0, 1)
        if image.shape != place.shape:
            raise BadImageError(f"of {image.shape}, not {place.shape}")
        place[...] = image


@contextmanager
def decoding_pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that stop with the block, and leave what they have not begun."""
    pool = ThreadPoolExecutor(threads, "decode")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def decode_images(files: Sequence[bytes], shape: Shape, source: object) -> Tensor:
    """A few images (n, C, S, S) uint8 of these files; raises DataError, which names `source`."""
    with decoding_pool(1) as pool:
        return DecodedImages(files, np.empty((len(files), *shape), np.uint8), source, pool)[:]


def shard_images(shard: Shard, shape: Shape, pool: ThreadPoolExecutor) -> DecodedImages:
    """The images of one shard, decoded by `pool` while the first are used; raises DataError."""
    schema = pa.schema([IMAGE_SCHEMA.field("image")])
    table = check_schema(read_shard(shard, schema.names), schema, shard)
    pixels = np.empty((table.num_rows, *shape), np.uint8)
    return DecodedImages(table.column("image").to_pylist(), pixels, shard, pool)


def stored_shape(folder: Path, manifest: Manifest) -> Shape:
    """(C, S, S) of a prepared folder's images, as its manifest notes."""
    channels, size = manifest.metadata.get("channels"), manifest.metadata.get("image_size")
    if type(size) is not int or channels not in (1, 3) or not 1 <= size <= LARGEST_SIDE:
        raise DataError(f"{folder}: its manifest does not say channels and image_size")
    return int(channels), size, size


def images_that_fit(folder: Path, cache_gib: float, task: TargetColumn) -> int:
    """How many decoded images of a prepared folder, with masks if any, `cache_gib` GiB hold."""
    return int(cache_gib * GIB) // _bytes_of_one(stored_shape(folder, read_manifest(folder)), task)


def _bytes_of_one(shape: Shape, task: TargetColumn) -> int:
    """What an image takes in memory, with its target where that is of pixels too."""
    none = _no_targets(task, shape[-1])
    return int(np.prod(shape)) + (int(np.prod(none.shape[1:])) if none.ndim > 1 else 0)


def _no_targets(task: TargetColumn, side: int) -> NDArray[Any]:
    """(0, …)."""
    return task.load(pa.chunked_array([], task.target.type), side)


@dataclass(frozen=True)
class ImageSet:
    """Decoded images (N, C, S, S) uint8, and their targets (N, …) as the task has them."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.images)


def load_images(
    folder: Path,
    *,
    task: TargetColumn | None = None,
    threads: int = 2,
    cache_gib: float = 4.0,
    cache: Path | None = None,
) -> ImageSet:
    """Decode every image of a prepared folder, its shards' SHA-256 checked.

    task: whose targets are read, None for one class an image.
    cache: a folder of this node. The first process to come decodes to a file in it, named by the
    digest of the folder's manifest, which all map into memory; the others wait for it.
    Raises DataError where the images would take more than `cache_gib` GiB, `cache` has no room, or
    a shard is unusable.
    """
    manifest, task = read_manifest(folder), task or LabelColumn()
    shape = (manifest.rows, *stored_shape(folder, manifest))
    if cache is None or not manifest.rows:
        _check_fits(folder, shape, cache_gib, task)
        pixels = np.empty(shape, np.uint8)
        targets = _decode_all(folder, manifest, task, pixels, threads)
        return ImageSet(torch.from_numpy(pixels), torch.from_numpy(targets))
    cache.mkdir(parents=True, exist_ok=True)
    name = manifest_digest(folder)
    images_file, targets_file = cache / f"{name}.images.npy", cache / f"{name}.targets.npy"
    with FileLock(cache / f"{name}.lock"):
        if not images_file.exists():
            _check_room(cache, int(np.prod(shape)))
            _check_fits(folder, shape, cache_gib, task)
            with written_whole(images_file) as partial:
                made = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
                targets = _decode_all(folder, manifest, task, made, threads)
                with written_whole(targets_file) as beside, beside.open("wb") as file:
                    np.save(file, targets)
    # Copy on write: torch wants to be allowed to write, and then writes to a copy of its own.
    mapped: list[Pixels] = [
        np.load(file, mmap_mode="c", allow_pickle=False) for file in (images_file, targets_file)
    ]
    return ImageSet(*map(torch.from_numpy, mapped))


def _decode_all(
    folder: Path, manifest: Manifest, task: TargetColumn, pixels: Pixels, threads: int
) -> NDArray[Any]:
    """Decode the images of all shards into `pixels`; returns the targets (N, …)."""
    schema = pa.schema([IMAGE_SCHEMA.field("image"), task.target])
    side, start = pixels.shape[-1], 0
    none = _no_targets(task, side)
    targets = np.empty((len(pixels), *none.shape[1:]), none.dtype)
    with decoding_pool(threads) as pool:
        for entry in manifest.shards:
            source: Any = folder / entry.file
            table = check_schema(read_entry(folder, entry, schema.names), schema, source)
            files = table.column("image").to_pylist()
            place = slice(start, start + entry.rows)
            DecodedImages(files, pixels[place], source, pool)[:]
            targets[place] = task.load(table.column(task.target.name), side)
            start += entry.rows
    return targets


def _check_fits(
    folder: Path, shape: tuple[int, int, int, int], cache_gib: float, task: TargetColumn
) -> None:
    needed = shape[0] * _bytes_of_one(shape[1:], task) / GIB
    if needed > cache_gib:
        raise DataError(
            f"{folder}: {shape[0]:,} decoded images take {needed:.1f} GiB, more than "
            f"train.cache_gib = {cache_gib:g}; raise it, or lower data.image_size"
        )


def _check_room(cache: Path, needed: int) -> None:
    """A map of a file that does not fit its disk would end the process, not raise."""
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise DataError(
            f"{cache}: has {free / GIB:.1f} GiB free, but decoded images take "
            f"{needed / GIB:.1f} GiB; set TMPDIR on the nodes to a larger disk"
        )
