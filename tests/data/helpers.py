"""Small real images and sources for the tests of pipeline.data."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.preparation.prepare import PrepareCounts, prepare
from pipeline.data.shards import iter_shards, read_shard
from pipeline.data.sources import Row, Source
from pipeline.data.storage import StoredFolder
from pipeline.data.trees.local import LocalTree
from pipeline.data.trees.tree import File
from pipeline.mapping import in_threads
from pipeline.params import DataParams
from pipeline.tasks import Task, open_task

CLASSIFICATION = open_task("classification")
Pixels = NDArray[np.uint8]


class ListSource:
    """A source of rows that a test made."""

    name = "list"
    rows_together = 1
    left_out: ClassVar[list[tuple[str, str]]] = []
    notes: ClassVar[list[str]] = []

    def __init__(self, rows: Sequence[Row], classes: Sequence[str] = ("cat", "dog")) -> None:
        self._rows, self._classes = list(rows), list(classes)

    @property
    def classes(self) -> list[str]:
        return self._classes

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self) -> Iterator[Row]:
        yield from self._rows

    def part(self, first: int, stop: int) -> list[Row]:
        return self._rows[first:stop]


def noise(seed: int, size: int = 8, channels: int = 1) -> Pixels:
    """Random pixels (size, size, channels) uint8, different for each seed."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (size, size, channels), dtype=np.uint8)


def encoded(image: Image.Image | Pixels, kind: str = "PNG", **options: Any) -> bytes:
    """An image as the bytes of a file."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    out = io.BytesIO()
    image.save(out, format=kind, **options)
    return out.getvalue()


def photo(width: int = 40, height: int = 24) -> Image.Image:
    """A smooth RGB image: red grows rightward, green downward."""
    red = np.tile(np.linspace(0, 255, width), (height, 1))
    green = np.tile(np.linspace(0, 255, height)[:, None], (1, width))
    array = np.stack([red, green, np.full_like(red, 60)], axis=-1)
    return Image.fromarray(array.astype(np.uint8))


def file_at(path: Path) -> File:
    """A file of this machine as sources have it."""
    return File(LocalTree(path.parent), path.name)


def labeled_rows(count: int, classes: int = 2, split: str | None = None) -> list[Row]:
    """`count` different labelled noise images, the classes in turn."""
    return [
        Row(f"{split or 'row'}_{index}", encoded(noise(index)), index % classes, split)
        for index in range(count)
    ]


def data_params(**changes: Any) -> DataParams:
    """Small defaults of the section `data`, with changes."""
    defaults: dict[str, Any] = {
        "source": "digits",
        "image_size": 8,
        "channels": 1,
        "labels": None,
        "validation_fraction": 0.25,
        "test_fraction": 0.25,
        "max_pixels": 1_000_000,
        "max_bad_fraction": 0.5,
        "near_duplicate_distance": 1.0,
        "images_per_shard": 16,
    }
    return DataParams(**(defaults | changes))


def run_prepare(
    source: Source,
    out: Path,
    *,
    seed: int = 0,
    threads: int = 2,
    storage: StoredFolder | None = None,
    corrections: Path | None = None,
    task: Task = CLASSIFICATION,
    **changes: Any,
) -> PrepareCounts:
    """`prepare` with small defaults; whatever it is given is accounted for."""
    data = data_params(**changes)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        counts = prepare(
            source,
            out,
            data,
            task=task,
            seed=seed,
            scratch=Path(scratch),
            place_of=None if storage is None else storage.__truediv__,
            map_items=in_threads(threads),
            corrections=corrections,
        )
    used = counts.labeled + counts.unlabeled + counts.validation + counts.test
    named = counts.quarantined + counts.duplicates_dropped + counts.other_files
    assert counts.seen == used + named == len(source) + len(source.left_out)
    assert len(read_shard(out / "quarantine.parquet")) == named
    return counts


FOLDERS = ("labeled", "unlabeled", "validation", "test")


def ids(out: Path, folder: str) -> list[str]:
    """The ids of a prepared folder, in order."""
    return [name for table in iter_shards(out / folder) for name in table["id"].to_pylist()]


def labels(out: Path, folder: str) -> list[int | None]:
    """The labels of a prepared folder, in order."""
    return [label for table in iter_shards(out / folder) for label in table["label"].to_pylist()]


def sides(out: Path) -> dict[str, str]:
    """The folder of each image, by id."""
    return {name: folder for folder in FOLDERS for name in ids(out, folder)}


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet file."""
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows
