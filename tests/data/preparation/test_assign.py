"""Where images go: what prepare does with labels, splits, groups and copies."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.sources import Row
from tests.data.helpers import (
    ListSource,
    encoded,
    labeled_rows,
    labels,
    noise,
    photo,
    rows_of,
    run_prepare,
    sides,
)


@pytest.mark.parametrize("budget", [None, 24])
def test_sides_do_not_depend_on_order(tmp_path: Path, budget: int | None) -> None:
    rows = labeled_rows(80)
    run_prepare(ListSource(rows), tmp_path / "a", labels=budget)
    random.Random(1).shuffle(rows)
    run_prepare(ListSource(rows), tmp_path / "b", labels=budget)
    assert sides(tmp_path / "a") == sides(tmp_path / "b")
    assert set(sides(tmp_path / "a").values()) >= {"labeled", "validation", "test"}


def test_an_image_more_moves_at_most_one_other(tmp_path: Path) -> None:
    rows = labeled_rows(64)
    run_prepare(ListSource(rows[:60]), tmp_path / "0")
    before = sides(tmp_path / "0")
    for number in range(61, 65):
        run_prepare(ListSource(rows[:number]), tmp_path / str(number))
        after = sides(tmp_path / str(number))
        assert sum(after[name] != side for name, side in before.items()) <= 2  # test, validation
        before = after


@pytest.mark.parametrize("image_size", [8, 12, 20])
def test_what_is_stored_of_an_image_does_not_move_it(tmp_path: Path, image_size: int) -> None:
    rows = [*labeled_rows(60), *(Row(f"u{n}", encoded(noise(900 + n))) for n in range(5))]
    run_prepare(ListSource(rows), tmp_path / "as it is", channels=1)
    run_prepare(ListSource(rows), tmp_path / "other", image_size=image_size, channels=3)
    assert sides(tmp_path / "as it is") == sides(tmp_path / "other")


def test_each_class_gives_its_share_rounded(tmp_path: Path) -> None:
    run_prepare(ListSource(labeled_rows(40)), tmp_path, test_fraction=0.2, validation_fraction=0.2)
    for folder, each in (("test", 4), ("validation", 3), ("labeled", 13)):
        assert [labels(tmp_path, folder).count(label) for label in (0, 1)] == [each, each]


def grouped(rows: list[Row], size: int) -> list[Row]:
    """`rows`, `size` after another of one group."""
    return [
        dataclasses.replace(row, group=f"patient {index // size}") for index, row in enumerate(rows)
    ]


@pytest.mark.parametrize("budget", [None, 40])
def test_what_belongs_together_lies_on_one_side(tmp_path: Path, budget: int | None) -> None:
    rows = grouped([*labeled_rows(120), *labeled_rows(240)[120:]], 6)
    rows = [
        dataclasses.replace(row, label=None) if index % 4 == 3 else row
        for index, row in enumerate(rows)
    ]
    counts = run_prepare(ListSource(rows), tmp_path, labels=budget, validation_fraction=0.25)
    found, group_of = sides(tmp_path), {row.id: row.group for row in rows}
    by_side = {
        side: {group_of[name] for name, where in found.items() if where in folders}
        for side, folders in (
            ("train", ("labeled", "unlabeled")),
            ("validation", ("validation",)),
            ("test", ("test",)),
        )
    }
    assert all(by_side.values())
    assert not by_side["train"] & (by_side["validation"] | by_side["test"])
    assert not by_side["validation"] & by_side["test"]
    left_out = rows_of(tmp_path / "quarantine.parquet")
    assert counts.grouped == len(left_out) > 0
    assert {row["reason"] for row in left_out} == {"of a group that is held out"}
    assert len(found) + len(left_out) == len(rows)


def test_another_seed_splits_otherwise(tmp_path: Path) -> None:
    for seed in (0, 1):
        run_prepare(ListSource(labeled_rows(60)), tmp_path / str(seed), seed=seed)
    assert sides(tmp_path / "0") != sides(tmp_path / "1")


def test_splits_of_the_source_stay(tmp_path: Path) -> None:
    rows = [
        dataclasses.replace(row, split=("train", "validation", "test")[index // 4 % 3])
        for index, row in enumerate(labeled_rows(36))
    ]
    run_prepare(ListSource(rows), tmp_path, validation_fraction=0.5)
    found = sides(tmp_path)
    expected = {"train": "labeled", "validation": "validation", "test": "test"}
    assert found == {row.id: expected[str(row.split)] for row in rows}


def jpeg_copy(row: Row, name: str) -> Row:
    return Row(name, encoded(photo(32, 32), "JPEG", quality=90), row.label, row.split)


def test_leaks_are_dropped_from_the_training_side(tmp_path: Path) -> None:
    test = Row("test", encoded(photo(32, 32)), 0, "test")
    leaks = [
        dataclasses.replace(test, id="exact labelled", split=None),
        dataclasses.replace(test, id="exact unlabelled", label=None, split=None),
        jpeg_copy(dataclasses.replace(test, split=None), "near"),
        dataclasses.replace(test, id="validation copy", split="validation"),
    ]
    rows = [*labeled_rows(12), test, *leaks]
    options: dict[str, Any] = {"image_size": 16, "channels": 3}
    counts = run_prepare(ListSource(rows), tmp_path / "near", **options)
    assert counts.duplicates_dropped == 4
    assert set(sides(tmp_path / "near")) == {row.id for row in rows} - {row.id for row in leaks}
    exact = run_prepare(
        ListSource(rows), tmp_path / "exact", near_duplicate_distance=0.0, **options
    )
    assert exact.duplicates_dropped == 3
    assert {row["reason"] for row in rows_of(tmp_path / "near" / "quarantine.parquet")} == {
        "a copy of 'test'"
    }


def test_a_copy_under_another_label_is_kept_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = Row("test", encoded(photo(32, 32)), 0, "test")
    other = Row("other", encoded(photo(32, 32), "JPEG", quality=90), 1)
    counts = run_prepare(
        ListSource([*labeled_rows(12), test, other]), tmp_path, image_size=16, channels=3
    )
    assert counts.duplicates_dropped == 0
    assert "1 images look the same as a held-out one of another class ('other' of 'test')" in (
        capsys.readouterr().out
    )


def test_many_copies_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = labeled_rows(40)
    copies = [dataclasses.replace(row, id=f"{row.id} again", label=None) for row in rows]
    counts = run_prepare(ListSource([*rows, *copies]), tmp_path)
    assert counts.duplicates_dropped == counts.test + counts.validation
    said = capsys.readouterr().out
    assert f"{counts.test} of 80 images are left out" not in said
    assert f"{counts.duplicates_dropped} of 80 images are left out as copies" in said


def test_copies_of_validation_images_leave_the_training_side(tmp_path: Path) -> None:
    held = Row("held", encoded(photo(32, 32)), 0, "validation")
    copy = Row("copy", encoded(photo(32, 32)), None)
    test = Row("test", encoded(noise(99)), 0, "test")
    counts = run_prepare(ListSource([*labeled_rows(12), held, copy, test]), tmp_path)
    assert counts.duplicates_dropped == 1
    assert sides(tmp_path)["held"] == "validation"
    assert "copy" not in sides(tmp_path)


def test_conflicting_labels_are_quarantined(tmp_path: Path) -> None:
    twin = encoded(noise(500))
    rows = [*labeled_rows(20), Row("one", twin, 0), Row("two", twin, 1)]
    counts = run_prepare(ListSource(rows), tmp_path)
    assert (counts.conflicts, counts.quarantined) == (2, 2)
    assert rows_of(tmp_path / "quarantine.parquet") == [
        {"id": "one", "reason": "conflicting labels"},
        {"id": "two", "reason": "conflicting labels"},
    ]
    assert not {"one", "two"} & set(sides(tmp_path))
