"""Prepare for a task whose answers are no class numbers: the same rules, other columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.encoding import encode_png, format_of
from pipeline.data.fit import place_of
from pipeline.data.images import decode_stored
from pipeline.data.masks import IGNORED
from pipeline.data.preparation.inspection import inspect_source, predicted_warnings
from pipeline.data.preparation.prepare import PrepareCounts
from pipeline.data.shards import iter_shards, read_manifest
from pipeline.data.sources import Row, open_source
from pipeline.data.sources.rows import MaskFile
from pipeline.data.tensors import read_dataset
from pipeline.errors import SourceError
from pipeline.tasks import open_task
from tests.data.helpers import (
    FOLDERS,
    ListSource,
    data_params,
    encoded,
    ids,
    noise,
    rows_of,
    run_prepare,
    sides,
)

TASK = open_task("segmentation")
VALUES = ((0, 0), (1, 1), (IGNORED, IGNORED))


def answer(number: int, width: int = 12, height: int = 8, most: int = 1) -> MaskFile:
    mask = np.random.default_rng(number).integers(0, most + 1, (height, width), np.uint8)
    return MaskFile(encode_png(mask[:, :, None]), VALUES)


def row(number: int, split: str | None = None, most: int = 1) -> Row:
    pixels = np.random.default_rng(number).integers(0, 256, (8, 12, 3), np.uint8)
    return Row(f"{split or 'row'}_{number}", encoded(pixels), answer(number, most=most), split)


def prepared(rows: list[Row], out: Path, **changes: Any) -> PrepareCounts:
    return run_prepare(ListSource(rows), out, task=TASK, **changes)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes")
    counts = run_prepare(
        open_source("digit_scenes", None, seed=0),
        out,
        task=TASK,
        image_size=64,
        labels=40,
        images_per_shard=500,
    )
    assert (counts.labeled, counts.unlabeled, counts.validation, counts.test) == (30, 1000, 10, 400)
    return out


def test_each_scene_is_on_the_side_of_its_digits(scenes: Path) -> None:
    assert {name.split("_")[0] for name in ids(scenes, "labeled")} == {"train"}
    assert {name.split("_")[0] for name in ids(scenes, "validation")} == {"validation"}
    assert {name.split("_")[0] for name in ids(scenes, "test")} == {"test"}


def test_the_truth_is_hidden_and_kept_apart(scenes: Path) -> None:
    hidden = [mask for table in iter_shards(scenes / "unlabeled") for mask in table["mask"]]
    assert not any(mask.is_valid for mask in hidden)
    truth = rows_of(scenes / "unlabeled_truth.parquet")
    assert [each["id"] for each in truth] == ids(scenes, "unlabeled")
    masks = {row.id: row.label.data for row in open_source("digit_scenes", None, seed=0).rows()}
    for each in truth:
        np.testing.assert_array_equal(decode_stored(each["mask"]), decode_stored(masks[each["id"]]))


def test_what_task_it_is_is_noted(scenes: Path) -> None:
    assert read_dataset(scenes).task == "segmentation"
    assert read_manifest(scenes / "test").metadata["task"] == "segmentation"


def test_images_and_masks_are_fitted_alike(tmp_path: Path) -> None:
    rows = [row(number) for number in range(20)]
    prepared(rows, tmp_path, channels=3)
    table = next(iter_shards(tmp_path / "labeled"))
    assert {*table["width"].to_pylist()} == {12}
    assert {*table["height"].to_pylist()} == {8}
    masks = TASK.load(table["mask"], 8)
    left, top, right, bottom = place_of(12, 8, 8)
    assert (masks[:, :top] == IGNORED).all()
    assert (masks[:, bottom:] == IGNORED).all()
    assert (masks[:, top:bottom, left:right] <= 1).all()


def test_photographs_are_stored_as_jpeg_and_their_masks_to_the_pixel(tmp_path: Path) -> None:
    rows = []
    for number in range(16):
        pixels = np.random.default_rng(number).integers(0, 256, (72, 96, 3), np.uint8)
        rows.append(Row(str(number), encoded(pixels, "JPEG"), answer(number, 96, 72), None))
    prepared(rows, tmp_path, image_size=96, channels=3, near_duplicate_distance=0.0)
    table = next(iter_shards(tmp_path / "labeled"))
    assert {format_of(data) for data in table["image"].to_pylist()} == {"jpeg"}
    assert {format_of(data) for data in table["mask"].to_pylist()} == {"png"}
    masks = TASK.load(table["mask"], 96)[:, 12:84]
    for name, mask in zip(table["id"].to_pylist(), masks, strict=True):
        assert (mask == decode_stored(answer(int(name), 96, 72).data)[:, :, 0]).all()
    dataset = read_dataset(tmp_path)
    inside = [decode_stored(data)[12:84] / 255 for data in table["image"].to_pylist()]
    np.testing.assert_allclose(dataset.mean, np.mean(inside, axis=(0, 1, 2)), rtol=1e-12)


def test_every_side_has_its_share_in_any_order(tmp_path: Path) -> None:
    rows = [row(number) for number in range(40)]
    counts = prepared(rows, tmp_path / "a", labels=12)
    assert (counts.labeled, counts.validation, counts.test, counts.unlabeled) == (9, 3, 10, 18)
    prepared(rows[::-1], tmp_path / "b", labels=12)
    assert sides(tmp_path / "a") == sides(tmp_path / "b")


def test_groups_stay_on_one_side(tmp_path: Path) -> None:
    rows = [replace(row(number), group=f"g{number // 4}") for number in range(48)]
    prepared(rows, tmp_path)
    found = sides(tmp_path)
    groups = {side: {each.group for each in rows if found.get(each.id) == side} for side in FOLDERS}
    assert not groups["labeled"] & groups["test"]
    assert not groups["labeled"] & groups["validation"]
    assert not groups["validation"] & groups["test"]


def test_the_same_image_with_another_mask_conflicts_and_with_the_same_is_a_copy(
    tmp_path: Path,
) -> None:
    rows = [row(number) for number in range(20)]
    rows += [replace(rows[0], id="other", label=answer(99)), replace(row(50), split="test")]
    rows += [replace(rows[-1], id="copy", split="train")]
    counts = prepared(rows, tmp_path)
    assert counts.conflicts == 2
    assert counts.duplicates_dropped == 1


def test_wrong_masks_are_named_and_counted_as_unusable_images_are(tmp_path: Path) -> None:
    rows = [row(number) for number in range(20)]
    rows[3] = replace(rows[3], label=MaskFile(rows[3].label.data[:30], VALUES))
    rows[4] = replace(rows[4], label=answer(4, 9, 9))
    rows[5] = replace(rows[5], label=answer(5, most=7))
    ignored = np.full((8, 12, 1), IGNORED, np.uint8)
    rows[6] = replace(rows[6], label=MaskFile(encode_png(ignored), VALUES))
    counts = prepared(rows, tmp_path)
    assert counts.quarantined == 4
    reasons = {each["id"]: each["reason"] for each in rows_of(tmp_path / "quarantine.parquet")}
    assert reasons["row_3"].startswith("mask: ")
    assert reasons["row_4"] == "mask: 9x9, its image is 12x8"
    assert reasons["row_5"] == "mask: value 2: no class"
    assert reasons["row_6"] == "mask: all of it is ignored"
    with pytest.raises(SourceError, match=r"4 of 20 images are unusable.*mask: "):
        prepared(rows, tmp_path / "strict", max_bad_fraction=0.1)
    found = inspect_source(ListSource(rows), TASK)
    assert {name for name, _ in found.bad} == set(reasons)


def test_a_class_that_no_labelled_image_shows_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(number, most=0) for number in range(20)]
    prepared(rows, tmp_path)
    warning = "no labelled training image shows 'dog': it can't be learnt"
    assert warning in capsys.readouterr().out
    found = inspect_source(ListSource(rows), TASK)
    assert (dict(found.labeled), found.answered) == ({"cat": 20}, 20)
    assert warning in predicted_warnings(found, data_params(), 0, TASK)


def test_noise_is_unlabelled_without_a_mask(tmp_path: Path) -> None:
    rows = [row(number) for number in range(20)]
    rows += [Row(f"u{n}", encoded(noise(100 + n, 8, 3))) for n in range(5)]
    counts = prepared(rows, tmp_path)
    assert counts.unlabeled == 5


def test_mean_and_deviation_are_those_of_the_images_without_what_lies_around(
    tmp_path: Path,
) -> None:
    rows = [replace(row(number), split=None) for number in range(12)]
    prepared(rows, tmp_path, image_size=24, channels=3, near_duplicate_distance=0.0)
    dataset = read_dataset(tmp_path)
    left, top, right, bottom = place_of(12, 8, 24)
    images = [image for table in iter_shards(tmp_path / "labeled") for image in table["image"]]
    inside = [decode_stored(image.as_py())[top:bottom, left:right] for image in images]
    values = np.stack(inside).reshape(-1, 3) / 255
    np.testing.assert_allclose(dataset.mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(dataset.std, values.std(axis=0), rtol=1e-12)
