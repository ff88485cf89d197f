"""Parquet with a column of masks in place of labels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.data.masks import IGNORED
from pipeline.data.sources import ColumnNames, Source, open_source
from pipeline.data.sources.recognise import recognise, task_of
from pipeline.errors import SourceError
from pipeline.tasks import open_task
from tests.data.helpers import encoded, noise, run_prepare
from tests.data.sources.test_parquet import write

CAT_DOG = '["cat", "dog", "void"]'


def mask(*values: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.resize(np.array(values, np.uint8), (8, 8))).save(file, "PNG")
    return file.getvalue()


def opened(path: Path, **options: Any) -> Source:
    return open_source("parquet", str(path), seed=0, task="segmentation", **options)


def columns(**changes: Any) -> dict[str, Any]:
    images = [encoded(noise(seed, 8, 3)) for seed in range(4)]
    masks = [mask(0, 1, 1, 255), mask(1), None, mask(0, 2)]
    splits = ["train", "test", "test", None]
    return {"image": images, "mask": masks, "split": splits} | changes


def test_masks_are_rows_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "scenes.parquet", columns(), CAT_DOG)
    assert (recognise(str(path)), task_of("parquet", str(path))) == ("parquet", "segmentation")
    source = opened(path)
    found = list(source.rows())
    assert [row.label and row.label.data for row in found] == columns()["mask"]
    assert [row.split for row in found] == ["train", "test", None, None]
    assert source.classes == ["cat", "dog"]
    assert found[0].label.values == ((0, 0), (1, 1), (2, IGNORED), (IGNORED, IGNORED))
    assert "1 test or validation images have no label: unlabelled" in source.notes


def test_without_names_classes_are_the_values(tmp_path: Path) -> None:
    source = opened(write(tmp_path / "scenes.parquet", columns()))
    assert source.classes == ["class_0", "class_1", "class_2"]
    flat = columns(mask=[mask(0, 255), None, None, mask(0)])
    assert opened(write(tmp_path / "flat.parquet", flat)).classes == ["background", "object"]


@pytest.mark.parametrize("name", ["annotation", "label", "semantic_segmentation"])
def test_hugging_faces_structs_by_usual_names(tmp_path: Path, name: str) -> None:
    values = columns()
    structs = [each and {"bytes": each, "path": None} for each in values.pop("mask")]
    path = write(tmp_path / "scenes.parquet", values | {name: structs})
    assert task_of("parquet", str(path)) == "segmentation"
    assert [row.label is None for row in opened(path).rows()] == [False, False, True, False]


def test_labels_beside_masks_count_unless_the_masks_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "both.parquet", columns(label=[0, 1, 1, 0]))
    assert task_of("parquet", str(path)) == "classification"
    named = ColumnNames(label="mask")
    assert task_of("parquet", str(path), named) == "segmentation"
    assert opened(path, columns=named).classes == opened(path).classes


def test_what_is_no_mask_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no column 'label'.*; set task: segmentation"):
        open_source("parquet", str(write(tmp_path / "masks.parquet", columns())), seed=0)
    path = write(tmp_path / "none.parquet", {"image": [b"a"], "label": [0]})
    with pytest.raises(SourceError, match="no column 'mask'"):
        opened(path)
    empty = columns(mask=pa.array([None] * 4, pa.binary()))
    with pytest.raises(SourceError, match="every mask is null"):
        opened(write(tmp_path / "empty.parquet", empty))
    wrong = columns(mask=[mask(0, 1), mask(9), b"no image", mask(0)])
    path = write(tmp_path / "wrong.parquet", wrong, '["cat", "dog"]')
    counts = run_prepare(
        opened(path), tmp_path / "out", task=open_task("segmentation"), max_bad_fraction=0.9
    )
    assert counts.quarantined == 2
    reasons = pq.read_table(tmp_path / "out/quarantine.parquet")["reason"].to_pylist()
    assert sorted(reasons) == ["mask: not an image", "mask: value 9: no class"]
