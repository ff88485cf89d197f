"""Prepared images in memory: decoded once by threads into one uint8 tensor, then indexed."""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.png import Bytes, check_png, decode_ours
from pipeline.data.shards import (
    IMAGE_SCHEMA,
    Manifest,
    Shard,
    check_schema,
    check_shard,
    column_labels,
    read_manifest,
    read_shard,
)
from pipeline.errors import DataError
from pipeline.files import read_json

DATASET_FILE = "dataset.json"
IMAGES_PER_TASK = 64
_LOADING = threading.Lock()
GIB = 1 << 30
LARGEST_SIDE = 1 << 14
GREY_MODE, RGB_MODE = 1, 3  # torchvision.io.ImageReadMode


@dataclass(frozen=True)
class Dataset:
    """What `prepare` says of all its images; mean and std per channel, of pixels in 0..1.

    bits: those in use of images that had 16.
    """

    source: str
    classes: tuple[str, ...]
    image_size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int
    bits: int


@dataclass(frozen=True)
class ImageSet:
    """Decoded images, images: (N, C, S, S) uint8, and where each comes from.

    labels: (N,) int64, -1 where there is none; shard, row: (N,) int64, the shard's place in the
    manifest and the row in it.
    """

    images: Tensor
    labels: Tensor
    ids: list[str]
    shard: NDArray[np.int64]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


def read_dataset(folder: Path) -> Dataset:
    """Read `dataset.json` of a prepared folder, or DataError."""
    path = folder / DATASET_FILE
    try:
        value = read_json(path)
        dataset = Dataset(
            source=str(value["source"]),
            classes=tuple(str(name) for name in value["classes"]),
            image_size=int(value["image_size"]),
            channels=int(value["channels"]),
            mean=tuple(float(item) for item in value["mean"]),
            std=tuple(float(item) for item in value["std"]),
            seed=int(value["seed"]),
            bits=int(value["bits"]),
        )
    except FileNotFoundError:
        raise DataError(f"{path}: missing; run the stage prepare") from None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{path}: not as prepare writes it ({error!r})") from None
    if not len(dataset.mean) == len(dataset.std) == dataset.channels:
        raise DataError(f"{path}: mean and std need {dataset.channels} numbers each")
    return dataset


def _in_memory(shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=torch.uint8)


def load_images(
    folder: Path,
    *,
    threads: int = 2,
    cache_gib: float = 4.0,
    allocate: Callable[[tuple[int, ...]], Tensor] = _in_memory,
) -> ImageSet:
    """Decode every image of a prepared folder, its shards' SHA-256 checked.

    `allocate`: makes the tensor that takes them, from its shape (N, C, S, S).
    Raises DataError where that would take more than `cache_gib` GiB, or a shard is unusable.
    """
    manifest = read_manifest(folder)
    shape = stored_shape(folder, manifest)
    _check_fits(folder, manifest.rows, shape, cache_gib)
    images = allocate((manifest.rows, *shape))
    labels = torch.full((manifest.rows,), -1, dtype=torch.int64)
    ids: list[str] = []
    with ThreadPoolExecutor(threads) as pool:
        for entry in manifest.shards:
            shard_file = check_shard(folder, entry)
            table = _read_images(shard_file, IMAGE_SCHEMA.names)
            start, stop = len(ids), len(ids) + table.num_rows
            if table.num_rows != entry.rows:
                raise DataError(f"{shard_file}: not {entry.rows} rows")
            _decode_column(table, images[start:stop], shard_file, pool)
            labels[start:stop] = torch.from_numpy(column_labels(table))
            ids += table.column("id").to_pylist()
    shard, row = _places(manifest)
    return ImageSet(images, labels, ids, shard, row)


class Images(Protocol):
    """Images that are looked at a slice at a time, (n, C, S, S) uint8, such as a tensor."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Tensor: ...


@contextmanager
def shard_images(
    path: Shard, shape: tuple[int, int, int], *, threads: int = 1
) -> Iterator[DecodedAhead]:
    """The images of one shard, decoded by `threads` threads while the block uses the first.

    `shape` is (C, S, S). Raises DataError, for an image that can't be decoded when it is used.
    """
    table = _read_images(path, ["image"])
    images = torch.empty((table.num_rows, *shape), dtype=torch.uint8)
    pool = ThreadPoolExecutor(threads)
    try:
        yield DecodedAhead(images, _decoding(table, images, pool), path)
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class DecodedAhead:
    """Images (n, C, S, S) that the tasks decode, so many each, in order; a slice waits for its."""

    images: Tensor
    tasks: list[Future[None]]
    path: Shard

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice, /) -> Tensor:
        start, stop, _ = rows.indices(len(self))
        finished(self.tasks[start // IMAGES_PER_TASK : -(-stop // IMAGES_PER_TASK)], self.path)
        return self.images[rows]


def stored_shape(folder: Path, manifest: Manifest) -> tuple[int, int, int]:
    """(C, S, S) of a prepared folder's images, as its manifest notes."""
    channels, size = manifest.metadata.get("channels"), manifest.metadata.get("image_size")
    if type(size) is not int or channels not in (1, 3) or not 1 <= size <= LARGEST_SIDE:
        raise DataError(f"{folder}: its manifest does not say channels and image_size")
    return int(channels), size, size


def decode_into(data: Sequence[Bytes], out: Tensor) -> None:
    """Decode PNG or JPEG bytes, each a uint8 array, into out: (n, C, S, S) uint8.

    Raises RuntimeError for an image that can't be decoded, or is of another size.
    """
    others = decode_ours(data, out.numpy())
    if not others:
        return
    decode_image, mode = decode_op(), GREY_MODE if out.shape[1] == 1 else RGB_MODE
    for place in others:
        check_png(data[place])
        image: Tensor = decode_image(torch.from_numpy(data[place].copy()), mode)
        if image.shape != out.shape[1:] or image.dtype != torch.uint8:
            raise RuntimeError(f"an image of {tuple(image.shape)}, not {tuple(out.shape[1:])}")
        out[place] = image


def decode_op() -> Any:
    """torchvision's `decode_image` operator, (data, mode) → image.

    Loads the operator's library alone where it can: importing torchvision takes seconds, and its
    Python wrapper warns at every call.
    """
    ops: Any = torch.ops
    with _LOADING:
        if not hasattr(ops.image, "decode_image"):
            spec = importlib.util.find_spec("torchvision")
            root = Path(spec.origin).parent if spec and spec.origin else Path()
            for library in (*sorted(root.glob("image*.so")), *sorted(root.glob("image*.pyd"))):
                with suppress(OSError):
                    ops.load_library(library)
        if not hasattr(ops.image, "decode_image"):
            importlib.import_module("torchvision.io")
    return ops.image.decode_image


def _read_images(path: Shard, columns: list[str]) -> Any:
    """The columns of a shard of prepared images, their types checked."""
    wanted = pa.schema([IMAGE_SCHEMA.field(name) for name in columns])
    return check_schema(read_shard(path, columns), wanted, path)


def _decode_column(table: Any, out: Tensor, path: Shard, pool: ThreadPoolExecutor) -> None:
    tasks = _decoding(table, out, pool)
    try:
        finished(tasks, path)
    finally:
        for task in tasks:
            task.cancel()


def _decoding(table: Any, out: Tensor, pool: ThreadPoolExecutor) -> list[Future[None]]:
    """The tasks, IMAGES_PER_TASK images each, that decode the column `image` into `out`."""
    data = column_bytes(table)
    return [
        pool.submit(decode_into, data[at : at + IMAGES_PER_TASK], out[at : at + IMAGES_PER_TASK])
        for at in range(0, len(data), IMAGES_PER_TASK)
    ]


def finished(tasks: Sequence[Future[None]], path: Shard) -> None:
    """Wait for tasks that decode; raises DataError where one can't."""
    try:
        for task in tasks:
            task.result()
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{path}: an image can't be decoded ({reason})") from None


def column_bytes(table: Any) -> list[Bytes]:
    """Each value of the column `image` as a uint8 array, where the table has it."""
    data: list[Bytes] = []
    for chunk in table.column("image").chunks:
        if not len(chunk):
            continue
        offsets = np.frombuffer(chunk.buffers()[1], dtype=np.int32)
        edges = offsets[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
        values = np.frombuffer(chunk.buffers()[2] or b"", dtype=np.uint8)
        data += [values[start:stop] for start, stop in pairwise(edges)]
    return data


def images_that_fit(folder: Path, cache_gib: float) -> int:
    """How many decoded images of a prepared folder `cache_gib` GiB hold."""
    channels, height, width = stored_shape(folder, read_manifest(folder))
    return int(cache_gib * GIB) // (channels * height * width)


def _check_fits(folder: Path, rows: int, shape: tuple[int, int, int], cache_gib: float) -> None:
    needed = rows * shape[0] * shape[1] * shape[2] / GIB
    if needed > cache_gib:
        raise DataError(
            f"{folder}: {rows:,} decoded images take {needed:.1f} GiB, more than "
            f"train.cache_gib = {cache_gib:g}; raise it, or lower data.image_size"
        )


def _places(manifest: Manifest) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows = [entry.rows for entry in manifest.shards]
    shard = np.repeat(np.arange(len(rows), dtype=np.int64), rows)
    row = np.concatenate([np.arange(n, dtype=np.int64) for n in rows] or [np.empty(0, np.int64)])
    return shard, row
