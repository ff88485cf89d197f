from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.data.images import decode_stored
from pipeline.data.preparation.prepare import PrepareCounts
from pipeline.data.shards import iter_shards, read_manifest
from pipeline.data.sources import Row, open_source
from pipeline.data.tensors import read_dataset
from pipeline.errors import ParameterError, SourceError
from tests.data.helpers import (
    FOLDERS,
    ListSource,
    encoded,
    ids,
    labeled_rows,
    labels,
    noise,
    photo,
    rows_of,
    run_prepare,
)


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
    assert str(counts) == (
        "1797 files or rows seen: 1797 used (70 labelled, 798 unlabelled, 30 validation, 899 test),"
        " 0 left out"
    )
    return out


def test_what_is_left_out_is_counted_once_with_its_reason() -> None:
    counts = PrepareCounts(40, 8, 6, 2, 4, 9, 10, 1, 4, 3, 2, 5, 1, 0)
    assert str(counts) == (
        "40 files or rows seen: 20 used (8 labelled, 6 unlabelled, 2 validation, 4 test), 20 left "
        "out (2 unusable, 4 the same as one of another class, 10 as copies of validation or test "
        "images, 2 of a group that validation or test has, 1 as corrections.csv says, 1 of "
        "other kinds); 3 animated, their first frame used, 5 corrected"
    )


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
        assert (decode_stored(data)[:, :, 0] == expected).all()


def test_dataset_file_holds_the_moments_of_labelled_pixels(digits: Path) -> None:
    images = np.concatenate(
        [
            np.stack([decode_stored(data) for data in table["image"].to_pylist()])
            for table in iter_shards(digits / "labeled")
        ]
    )
    dataset = read_dataset(digits)
    assert (dataset.source, dataset.image_size, dataset.channels) == ("digits", 8, 1)
    assert dataset.classes == tuple("0123456789")
    assert dataset.mean == pytest.approx([images.mean() / 255])
    assert dataset.std == pytest.approx([images.std() / 255])


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
