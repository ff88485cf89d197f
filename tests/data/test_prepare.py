from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.data.images import decode_png
from pipeline.data.shards import iter_shards, read_manifest
from pipeline.data.sources import Row, open_source
from pipeline.data.tensors import read_dataset
from pipeline.errors import ParameterError, SourceError
from tests.data.helpers import ListSource, encoded, labeled_rows, noise, photo, run_prepare

FOLDERS = ("labeled", "unlabeled", "validation", "test")


def ids(out: Path, folder: str) -> list[str]:
    return [name for table in iter_shards(out / folder) for name in table["id"].to_pylist()]


def labels(out: Path, folder: str) -> list[int | None]:
    return [label for table in iter_shards(out / folder) for label in table["label"].to_pylist()]


def sides(out: Path) -> dict[str, str]:
    return {name: folder for folder in FOLDERS for name in ids(out, folder)}


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def everything(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("digits")
    counts = run_prepare(
        open_source("digits", None, seed=0), out, labels=100, validation_fraction=0.3
    )
    assert dataclasses.asdict(counts) == {
        "seen": 1797,
        "labeled": 70,
        "unlabeled": 798,
        "validation": 30,
        "test": 899,
        "quarantined": 0,
        "duplicates_dropped": 0,
        "other_files": 0,
        "conflicts": 0,
        "animated": 0,
        "grouped": 0,
        "corrected": 0,
        "excluded": 0,
        "corrections_unused": 0,
    }
    return out


def test_digits_budget_is_even_over_classes(digits: Path) -> None:
    assert np.bincount(np.array(labels(digits, "labeled"))).tolist() == [7] * 10
    assert np.bincount(np.array(labels(digits, "validation"))).tolist() == [3] * 10


def test_every_digit_is_somewhere_once(digits: Path) -> None:
    names = [name for folder in FOLDERS for name in ids(digits, folder)]
    assert sorted(names) == [f"digit_{index:05d}" for index in range(1797)]


def test_hidden_truth_is_apart(digits: Path) -> None:
    assert set(labels(digits, "unlabeled")) == {None}
    truth = rows_of(digits / "unlabeled_truth.parquet")
    assert [row["id"] for row in truth] == ids(digits, "unlabeled")
    source = {row.id: row.label for row in open_source("digits", None, seed=0).rows()}
    assert all(row["label"] == source[row["id"]] for row in truth)


def test_stored_pixels_are_the_digits(digits: Path) -> None:
    from sklearn.datasets import load_digits

    values = load_digits().images
    table = next(iter_shards(digits / "test"))
    for name, data in zip(table["id"].to_pylist(), table["image"].to_pylist(), strict=True):
        expected = np.round(values[int(name[-5:])] * 255 / 16)
        assert (decode_png(data)[:, :, 0] == expected).all()


def test_dataset_file_holds_the_moments_of_labelled_pixels(digits: Path) -> None:
    images = np.concatenate(
        [
            np.stack([decode_png(data) for data in table["image"].to_pylist()])
            for table in iter_shards(digits / "labeled")
        ]
    )
    dataset = read_dataset(digits)
    assert (dataset.source, dataset.image_size, dataset.channels) == ("digits", 8, 1)
    assert dataset.classes == tuple("0123456789")
    assert dataset.mean == pytest.approx([images.mean() / 255])
    assert dataset.std == pytest.approx([images.std() / 255])


def test_a_rerun_gives_the_same_bytes_and_leaves_no_scratch(tmp_path: Path) -> None:
    source = ListSource(labeled_rows(60))
    for name, threads in (("a", 1), ("b", 3), ("b", 2)):
        (tmp_path / name / ".prepare").mkdir(parents=True, exist_ok=True)
        (tmp_path / name / ".prepare" / "left over").touch()
        run_prepare(source, tmp_path / name, labels=20, threads=threads)
    assert everything(tmp_path / "a") == everything(tmp_path / "b")
    assert len(everything(tmp_path / "a")) > 8
    assert not (tmp_path / "a" / ".prepare").exists()


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


@pytest.mark.parametrize("image_size", [4, 8, 12])
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


def test_bad_images_are_quarantined_with_their_reason(tmp_path: Path) -> None:
    bad = [
        Row("empty", b"", 0),
        Row("text", b"hello " * 50, 1),
        Row("large", encoded(photo(200, 100)), 1),
        Row("closed", b"", None, None, "unreadable: Permission denied"),
    ]
    source = ListSource([*labeled_rows(20), *bad])
    counts = run_prepare(source, tmp_path, max_pixels=10_000)
    assert counts.quarantined == 4
    assert rows_of(tmp_path / "quarantine.parquet") == [
        {"id": "empty", "reason": "empty"},
        {"id": "text", "reason": "not an image"},
        {"id": "large", "reason": "too many pixels: 200x100"},
        {"id": "closed", "reason": "unreadable: Permission denied"},
    ]
    with pytest.raises(SourceError, match=r"4 of 24 .*max_bad_fraction = 0\.1: 'empty' \(empty\)"):
        run_prepare(source, tmp_path, max_bad_fraction=0.1, max_pixels=10_000)


def test_animations_are_counted(tmp_path: Path) -> None:
    frames = [photo(16, 16), photo(16, 16).rotate(90)]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    counts = run_prepare(ListSource([*labeled_rows(20), Row("moving", gif)]), tmp_path)
    assert (counts.animated, counts.unlabeled) == (1, 1)


def test_without_unlabelled_images_a_line_warns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = run_prepare(ListSource(labeled_rows(20)), tmp_path)
    assert counts.unlabeled == 0
    assert read_manifest(tmp_path / "unlabeled").rows == 0
    assert rows_of(tmp_path / "unlabeled_truth.parquet") == []
    assert "no unlabelled images" in capsys.readouterr().out


ROW = labeled_rows(1)[0]
WRONG_SOURCES: list[tuple[list[Row], tuple[str, ...], str]] = [
    ([], ("cat", "dog"), "no images"),
    (labeled_rows(4, classes=1), ("cat",), "at least 2"),
    (labeled_rows(12), ("cat", "dog", "emu"), "'emu'"),
    ([*labeled_rows(4), ROW], ("cat", "dog"), "'row_0': this id comes twice"),
    ([dataclasses.replace(ROW, label=2)], ("cat", "dog"), "label 2"),
    ([dataclasses.replace(ROW, split="dev")], ("cat", "dog"), "split 'dev'"),
    ([dataclasses.replace(ROW, label=None)], ("cat", "dog"), "no usable labelled"),
    (
        [dataclasses.replace(ROW, label=None, split="test")],
        ("cat", "dog"),
        "test image needs a label",
    ),
]


@pytest.mark.parametrize(("rows", "classes", "message"), WRONG_SOURCES)
def test_unusable_sources_end_in_one_line(
    tmp_path: Path, rows: list[Row], classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        run_prepare(ListSource(rows, classes), tmp_path)
    assert "\n" not in str(caught.value)
    assert everything(tmp_path) == {}


def test_a_budget_that_is_too_large_leaves_earlier_outputs(tmp_path: Path) -> None:
    run_prepare(ListSource(labeled_rows(20)), tmp_path)
    before = everything(tmp_path)
    with pytest.raises(ParameterError, match=r"data\.labels = 50"):
        run_prepare(ListSource(labeled_rows(20)), tmp_path, labels=50)
    assert everything(tmp_path) == before


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    count=st.integers(12, 40),
    budget=st.none() | st.integers(2, 6),
    fraction=st.sampled_from([0.0, 0.2, 0.5]),
    per_shard=st.integers(1, 50),
    seed=st.integers(0, 1000),
)
def test_no_combination_loses_or_doubles_an_image(
    tmp_path: Path, count: int, budget: int | None, fraction: float, per_shard: int, seed: int
) -> None:
    rows = [*labeled_rows(count), Row("free", encoded(noise(10**6)))]
    rows.append(Row("tested", encoded(noise(10**6 + 1)), 0, "test" if seed % 2 else None))
    try:
        counts = run_prepare(
            ListSource(rows),
            tmp_path,
            labels=budget,
            validation_fraction=fraction,
            images_per_shard=per_shard,
            test_fraction=0.1,
            seed=seed,
            threads=1 + seed % 3,
        )
    except SourceError as error:
        if "no test images" not in str(error):
            raise
        return
    names = [name for folder in FOLDERS for name in ids(tmp_path, folder)]
    assert sorted(names) == sorted(row.id for row in rows)
    assert budget is None or counts.labeled + counts.validation == budget
