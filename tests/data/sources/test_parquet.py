from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.sources import ColumnNames, Row, open_source
from pipeline.errors import ParameterError, SourceError
from tests.data.helpers import encoded, noise, run_prepare


def write(path: Path, columns: dict[str, Any], classes: str | None = None) -> Path:
    table = pa.table(columns)
    if classes is not None:
        table = table.replace_schema_metadata({"classes": classes})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2)
    return path


def rows(path: Path | str) -> list[Row]:
    return list(open_source("parquet", str(path), seed=0).rows())


IMAGES = [b"a", b"b", b"c", b"d", b"e"]


def test_columns_become_rows(tmp_path: Path) -> None:
    path = write(
        tmp_path / "all.parquet",
        {
            "id": ["v", "w", "x", "y", "z"],
            "image": IMAGES,
            "label": pa.array([1, 0, None, 2, 1], pa.int32()),
            "split": ["train", "test", None, "validation", "train"],
            "more": [0] * 5,
        },
        json.dumps(["cat", "dog", "emu"]),
    )
    source = open_source("parquet", str(path), seed=0)
    assert source.classes == ["cat", "dog", "emu"]
    assert len(source) == 5
    assert list(source.rows()) == [
        Row("v", b"a", 1, "train"),
        Row("w", b"b", 0, "test"),
        Row("x", b"c", None, None),
        Row("y", b"d", 2, "validation"),
        Row("z", b"e", 1, "train"),
    ]


def test_hugging_faces_image_struct_and_made_up_ids(tmp_path: Path) -> None:
    images = [{"bytes": data, "path": f"{data!r}.png"} for data in IMAGES[:2]] + [None]
    path = write(tmp_path / "hf.parquet", {"image": images, "label": [0, 1, 1]})
    assert [(row.id, row.image, row.problem) for row in rows(path)] == [
        ("hf.parquet:0", b"a", None),
        ("hf.parquet:1", b"b", None),
        ("hf.parquet:2", b"", "no image"),
    ]


@pytest.mark.parametrize("pattern", ["", "*.parquet", "part_?.parquet"])
def test_folders_and_globs_are_read_in_order(tmp_path: Path, pattern: str) -> None:
    for name, labels in (("part_b", ["dog", "cat"]), ("part_a", ["emu", None])):
        images = [f"{name}{n}".encode() for n in range(2)]
        write(tmp_path / f"{name}.parquet", {"image": images, "label": labels})
    source = open_source("parquet", str(tmp_path / pattern), seed=0)
    assert source.classes == ["cat", "dog", "emu"]
    assert [(row.id, row.label) for row in source.rows()] == [
        ("part_a.parquet:0", 2),
        ("part_a.parquet:1", None),
        ("part_b.parquet:0", 1),
        ("part_b.parquet:1", 0),
    ]


def test_files_of_one_name_in_two_folders_get_different_ids(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(tmp_path / folder / "part.parquet", {"image": IMAGES[:2], "label": [0, 1]})
    assert len({row.id for row in rows(tmp_path)}) == 4


@pytest.mark.parametrize(("classes", "expected"), [(None, ["0", "2"]), ("a|b|c", ["a", "b", "c"])])
def test_class_names_without_a_json_list(
    tmp_path: Path, classes: str | None, expected: list[str]
) -> None:
    path = write(tmp_path / "n.parquet", {"image": IMAGES[:2], "label": [2, 0]}, classes)
    assert open_source("parquet", str(path), seed=0).classes == expected


WRONG: list[tuple[dict[str, Any], str | None, str]] = [
    ({"label": [0, 1]}, None, "no column 'image'"),
    ({"image": ["a", "b"], "label": [0, 1]}, None, "column 'image' is string"),
    ({"image": [b"a"], "label": [0], "split": [1]}, None, "column 'split' is int64"),
    ({"image": [b"a"], "label": [0], "id": [1.5]}, None, "column 'id' is double"),
    ({"image": [b"a", b"b"], "label": ["x", "z"]}, '["x", "y"]', "label 'z'"),
    ({"image": [b"a"], "label": [0]}, "[1, 2]", "not a JSON list"),
]


@pytest.mark.parametrize(("columns", "classes", "message"), WRONG)
def test_files_that_do_not_fit(
    tmp_path: Path, columns: dict[str, Any], classes: str | None, message: str
) -> None:
    path = write(tmp_path / "wrong.parquet", columns, classes)
    with pytest.raises(SourceError, match=message) as caught:
        rows(path)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no Parquet file"):
        rows(tmp_path / "*.parquet")


def test_labels_of_two_kinds_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"image": [b"a"], "label": [0]})
    write(tmp_path / "b.parquet", {"image": [b"a"], "label": ["cat"]})
    with pytest.raises(SourceError, match="numbers in some files"):
        rows(tmp_path)


def test_a_parquet_file_is_prepared(tmp_path: Path) -> None:
    images = [encoded(noise(n)) for n in range(40)]
    labels = [n % 2 if n < 30 else None for n in range(40)]
    path = write(tmp_path / "all.parquet", {"image": images, "label": labels})
    counts = run_prepare(open_source("parquet", str(path), seed=0), tmp_path / "out")
    assert counts.unlabeled == 10
    assert counts.labeled + counts.validation + counts.test == 30


HUB = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}


def hub(path: Path, labels: list[int | None]) -> None:
    images = [encoded(noise(n)) for n in range(len(labels))]
    table = pa.table({"image": images, "label": pa.array(labels, pa.int64()), "site": labels})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(HUB)}), path)


def test_names_and_splits_of_hugging_face_are_kept(tmp_path: Path) -> None:
    hub(tmp_path / "train-00000-of-00001.parquet", [0, 1, -1, None])
    hub(tmp_path / "test-00000-of-00001.parquet", [1, -1])
    source = open_source("parquet", str(tmp_path), seed=0, columns=ColumnNames(group="site"))
    assert source.classes == ["cat", "dog"]
    found = [(row.label, row.split, row.group) for row in source.rows()]
    assert found == [
        (1, "test", "1"),
        (None, None, "-1"),
        (0, "train", "0"),
        (1, "train", "1"),
        (None, None, "-1"),
        (None, None, None),
    ]
    assert "1 test or validation images have no label: unlabelled" in source.notes


def test_numbers_that_start_at_one_are_the_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"image": IMAGES[:2], "label": [2, 1], "x": [0, 0]})
    source = open_source("parquet", str(path), seed=0)
    assert (source.classes, [row.label for row in source.rows()]) == (["1", "2"], [1, 0])
    assert source.notes == [
        "columns not used: 'x'",
        "the classes are the 2 numbers that occur, 1 to 2",
    ]


def test_what_lies_beside_parquet_files_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"image": IMAGES[:2], "label": [0, 1]})
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "b.parquet").write_text("text")
    left_out = open_source("parquet", str(tmp_path), seed=0).left_out
    assert [name for name, _ in left_out] == [".cache/b.parquet", "notes.txt"]


def test_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"image": IMAGES[:2], "label": [0, 1]})
    with pytest.raises(ParameterError, match=r"data.group_column = 'emu': .*'image', 'label'"):
        open_source("parquet", str(path), seed=0, columns=ColumnNames(group="emu"))


def test_a_label_of_several_classes_is_refused(tmp_path: Path) -> None:
    table = pa.table({"image": [b"1", b"2", b"3"], "label": ["cat", "dog", "cat|dog"]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=r"'cat\|dog' names several classes"):
        open_source("parquet", str(tmp_path / "a.parquet"), seed=0)
