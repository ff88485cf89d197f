"""Which source reads a folder, and which of its tables."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.sources import ColumnNames, open_source
from pipeline.data.sources.recognise import recognise, unread_tables
from pipeline.errors import SourceError
from tests.data.helpers import encoded, noise
from tests.data.sources.test_folder import put
from tests.data.sources.test_manifest import labeled, read


def test_a_table_in_a_folder_that_is_all_there_is_is_found(tmp_path: Path) -> None:
    put(tmp_path, "my/in/labels.csv", b"path,label\na/1.png,cat\n../2.png,dog\n")
    put(tmp_path, "my/in/a/1.png")
    put(tmp_path, "my/in/a/3.png")
    assert recognise(str(tmp_path)) == "manifest"
    assert read(tmp_path) == [
        ("my/in/a/1.png", 0, None, None),
        ("../2.png", 1, None, "unreadable: No such file or directory"),
        ("my/in/a/3.png", None, None, None),
    ]


@pytest.mark.parametrize("separator", [" ", ",", "\t"])
@pytest.mark.parametrize("name", ["train.txt", "train.csv"])
def test_a_table_without_header_is_read_where_it_leads_to_files(
    tmp_path: Path, separator: str, name: str
) -> None:
    put(tmp_path, "in/a.png")
    put(tmp_path, "in/b.png")
    put(tmp_path, "README.txt", b"a.png\nis a picture, the label is a word\n")
    put(tmp_path, name, f"in/a.png{separator}7\nin/b.png{separator}8\n".encode())
    assert recognise(str(tmp_path)) == "manifest"
    for path in (tmp_path, tmp_path / name):
        assert read(path) == [("in/a.png", 0, None, None), ("in/b.png", 1, None, None)]
    put(tmp_path, name, f"in/a.png{separator}7\nin/a.png{separator}8\n".encode())
    with pytest.raises(SourceError, match=r"row 2: 'in/a\.png' is in row 1 too"):
        read(tmp_path)


def test_a_form_for_answers_is_no_table_of_labels(tmp_path: Path) -> None:
    for number in range(4):
        put(tmp_path, f"train/{number}.jpg")
        put(tmp_path, f"test/{number + 10}.jpg")
    put(tmp_path, "sample_submission.csv", labeled("10", "11", "12", "13", label="cat"))
    put(tmp_path, "train.csv", labeled("0", "1", "2", "3"))
    assert recognise(str(tmp_path)) == "manifest"
    rows = read(tmp_path)
    assert [row[0] for row in rows if row[1] is not None] == [f"train/{n}.jpg" for n in range(4)]
    assert {row[2] for row in rows[:4]} == {"train"}
    assert [row[0] for row in rows[4:]] == [f"test/{n + 10}.jpg" for n in range(4)]


def test_tables_named_for_splits_are_read_as_one(tmp_path: Path) -> None:
    for number in range(4):
        put(tmp_path, f"images/{number}.jpg")
    put(tmp_path, "train.csv", labeled("0.jpg", "1.jpg"))
    put(tmp_path, "test.csv", labeled("2.jpg"))
    assert read(tmp_path) == [
        ("images/2.jpg", 0, "test", None),
        ("images/0.jpg", 0, "train", None),
        ("images/1.jpg", 1, "train", None),
        ("images/3.jpg", None, None, None),
    ]
    put(tmp_path, "test.csv", labeled("1.jpg"))
    with pytest.raises(SourceError, match=r"train\.csv: row 3: .* is in row 2 of test\.csv too"):
        read(tmp_path)


def test_a_list_of_numbers_is_none_of_labels(tmp_path: Path) -> None:
    names = [f"{('cat', 'dog')[number % 2]}/{number}.jpg" for number in range(12)]
    for name in names:
        put(tmp_path, name)
    lines = [f"{number} {name}" for number, name in enumerate(names)]
    put(tmp_path, "images.txt", "\n".join(lines).encode())
    assert recognise(str(tmp_path)) == "folder"


def test_the_column_that_a_user_names_decides_what_is_read(tmp_path: Path) -> None:
    for number in range(4):
        put(tmp_path, f"part_{number % 2}/{number}.jpg")
    rows = [f"{number},{('nv', 'mel')[number // 2]}" for number in range(4)]
    put(tmp_path, "metadata.csv", "\n".join(["image_id,dx", *rows]).encode())
    assert recognise(str(tmp_path)) == "folder"
    assert unread_tables(str(tmp_path))[0].startswith("metadata.csv names images too")
    assert recognise(str(tmp_path), ColumnNames(label="dx")) == "manifest"


def test_a_flat_folder_labeled_is_read_by_its_table(tmp_path: Path) -> None:
    for number in range(4):
        put(tmp_path, f"labeled/{number}.jpg")
    put(tmp_path, "unlabeled/5.jpg")
    put(tmp_path, "labels.csv", labeled("0", "1", "2", "3"))
    assert recognise(str(tmp_path)) == "manifest"


def test_a_folder_needs_one_csv(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no CSV"):
        read(tmp_path)
    with pytest.raises(SourceError, match="no such CSV"):
        read(tmp_path / "my.csv")
    for name in ("a.csv", "b.csv"):
        put(tmp_path, name, b"path,label\nx.png,1\n")
    with pytest.raises(SourceError, match=r"several CSV .*a\.csv, b\.csv"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("files", "source"),
    [
        (["labeled/a/1.png", "labeled/b/1.png", "unlabeled/2.png", "x.csv"], "folder"),
        (["a/1.png", "b/2.png"], "folder"),
        (["train/a/1.png", "train/b/2.png", "test/a/3.png"], "folder"),
        (["1.png", "2.png", "x.csv"], "manifest"),
        (["train/1.png", "test/2.png", "x.csv"], "manifest"),
        (["x.parquet"], "parquet"),
    ],
)
def test_layouts_are_recognised(tmp_path: Path, files: list[str], source: str) -> None:
    for name in files:
        data = encoded(noise(1)) if name.endswith("png") else b"path,label\n1.png,a\n"
        put(tmp_path, name, data)
    assert recognise(str(tmp_path)) == source


def test_a_table_of_something_else_beside_classes_is_left_alone(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/2.png"):
        put(tmp_path, name, encoded(noise(1)))
    put(tmp_path, "sizes.csv", b"id,size\n1,7\n2,8\n")
    assert recognise(str(tmp_path)) == "folder"


def test_a_table_of_other_columns_is_found_where_it_leads_to_images(tmp_path: Path) -> None:
    put(tmp_path, "images/1.png", encoded(noise(1)))
    put(tmp_path, "sample.csv", b"id,guess\n9,cat\n")
    put(tmp_path, "train.csv", b"id,species\n1,cat\n")
    assert recognise(str(tmp_path)) == "manifest"
    source = open_source("manifest", str(tmp_path), seed=0, columns=ColumnNames(label="species"))
    assert [row.id for row in source.rows()] == ["images/1.png"]


def test_files_are_recognised_by_their_ending(tmp_path: Path) -> None:
    assert recognise("my.CSV") == "manifest"
    pq.write_table(pa.table({"image": [b""]}), tmp_path / "x.parquet")
    assert recognise(str(tmp_path / "x.parquet")) == "parquet"
    assert recognise(f"{tmp_path}/*.parquet") == "parquet"


def test_what_is_no_layout_is_said_with_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        recognise(str(tmp_path / "nothing"))
    with pytest.raises(SourceError, match="no such folder, CSV or Parquet"):
        recognise(str(tmp_path / "no.gif"))
