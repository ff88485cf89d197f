"""A part of a source has the rows of the whole, and goes to another process."""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.sources import Source, open_source
from pipeline.data.sources.parquet_files import row_batches
from tests.data.helpers import encoded, file_at, noise
from tests.data.sources.test_coco import annotation, lists

COUNT = 30


def digits(root: Path) -> Source:
    return open_source("digits", None, seed=0)


def scenes(root: Path) -> Source:
    return open_source("digit_scenes", None, seed=0)


def folder(root: Path) -> Source:
    for number in range(COUNT):
        place = root / ("unlabeled", "cat", "dog")[number % 3] / f"g{number % 4}_{number}.png"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(encoded(noise(number)))
    return open_source("folder", str(root), seed=0, group_pattern=r"(g\d)_")


def manifest(root: Path) -> Source:
    folder(root)
    with (root / "labels.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(["path", "label"])
        table.writerows(
            [f"cat/g{n % 4}_{n}.png", ("ape", "bee")[n % 2]] for n in range(1, COUNT, 3)
        )
        table.writerow(["cat/gone.png", "ape"])
    return open_source("manifest", str(root), seed=0)


def masks(root: Path) -> Source:
    for number in range(COUNT):
        for name in ("images", "masks")[: 1 + number % 2]:
            (root / name).mkdir(exist_ok=True)
            values = noise(number) if name == "images" else noise(number) % 2
            (root / name / f"{number}.png").write_bytes(encoded(values))
    return open_source("masks", str(root), seed=0)


def coco(root: Path) -> Source:
    names = [f"{number}.png" for number in range(COUNT)]
    for number, name in enumerate(names):
        (root / name).write_bytes(encoded(noise(number)))
    value = lists(names, [annotation(number) for number in range(1, COUNT, 2)])
    (root / "annotations.json").write_text(json.dumps(value))
    return open_source("coco", str(root), seed=0)


def parquet(root: Path) -> Source:
    for part, first, group in (("train", 0, 7), ("test", 20, 64)):
        numbers = range(first, 20 if part == "train" else COUNT)
        rows = {
            "image": [encoded(noise(n)) for n in numbers],
            "label": [("cat", "dog")[n % 2] for n in numbers],
        }
        pq.write_table(pa.table(rows), root / f"{part}.parquet", row_group_size=group)
    return open_source("parquet", str(root), seed=0)


def parquet_masks(root: Path) -> Source:
    images = [encoded(noise(n)) for n in range(COUNT)]
    table = {"image": images, "mask": [encoded(noise(n) % 2) for n in range(COUNT)]}
    pq.write_table(pa.table(table), root / "a.parquet", row_group_size=4)
    return open_source("parquet", str(root), seed=0, task="segmentation")


SOURCES = [digits, scenes, folder, manifest, masks, coco, parquet, parquet_masks]


@pytest.mark.parametrize("made", SOURCES)
def test_parts_in_another_process_have_the_rows_of_the_whole(
    tmp_path: Path, made: Callable[[Path], Source]
) -> None:
    source = made(tmp_path)
    whole, count = list(source.rows()), len(source)
    assert len(whole) == count >= COUNT
    cuts = [0, 1, 8, 8, 19, 22, count // 2, count]
    found = [
        row
        for first, stop in pairwise(sorted(cuts))
        for row in pickle.loads(pickle.dumps(source.part(first, stop)))
    ]
    assert found == whole
    assert list(source.part(count - 2, count + 5)) == whole[-2:]
    one = source.part(4, 5)
    assert list(one) == list(one) == whole[4:5]


def test_a_part_of_files_is_small(tmp_path: Path) -> None:
    for made in (folder, masks, parquet):
        (tmp_path / made.__name__).mkdir()
        source = made(tmp_path / made.__name__)
        assert len(pickle.dumps(source.part(3, 5))) < 2000


def test_other_row_groups_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": np.arange(100)}), path, row_group_size=10)
    data = bytearray(path.read_bytes())
    with pq.ParquetFile(path) as file:
        group = file.metadata.row_group(3).column(0)
    start = group.data_page_offset
    data[start : start + 20] = bytes(20)  # what is not read can't be wrong
    path.write_bytes(data)
    for first, stop in ((0, 30), (40, 100), (25, 29), (95, 400)):
        found = [
            n
            for batch in row_batches(file_at(path), ["n"], first, stop)
            for n in batch["n"].tolist()
        ]
        assert found == [*range(first, min(stop, 100))]
