from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.sources.loose import LooseImages
from pipeline.errors import SourceError
from tests.data.sources.test_folder import put


def ids(where: Path | str) -> list[str]:
    images = LooseImages(str(where))
    found = [row.id for row in images.rows()]
    assert len(images) == len(found)
    return found


def test_a_folder_gives_a_row_for_each_file_below_it(tmp_path: Path) -> None:
    for name in ("b.png", "a/c.JPG", "a/.hidden.png", "notes.txt", "x.csv"):
        put(tmp_path, name)
    assert ids(tmp_path) == ["a/c.JPG", "b.png", "notes.txt", "x.csv"]
    problems = {row.id: row.problem for row in LooseImages(str(tmp_path)).rows() if row.problem}
    assert problems["notes.txt"] == ".txt file, not an image"


def test_results_among_the_images_are_none_of_them(tmp_path: Path) -> None:
    for name in ("a.png", "out/masks/a.png", "out/predictions.csv", "other/out.png"):
        put(tmp_path, name)
    out = tmp_path / "other" / ".." / "out"
    for where in (str(tmp_path), f"{tmp_path}/**/*.png"):
        found = [Path(row.id).name for row in LooseImages(where, out).rows()]
        assert found == ["a.png", "out.png"]


def test_a_glob_or_a_file_gives_what_it_names(tmp_path: Path) -> None:
    for name in ("b.png", "a/c.jpg", "a/d.txt"):
        put(tmp_path, name)
    assert ids(f"{tmp_path}/**/*.jpg") == [f"{tmp_path}/a/c.jpg"]
    assert ids(tmp_path / "a" / "d.txt") == [f"{tmp_path}/a/d.txt"]


def test_parquet_needs_no_labels(tmp_path: Path) -> None:
    struct = [{"bytes": b"x", "path": None}, None]
    pq.write_table(pa.table({"image": [b"1", None], "id": [7, 8]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": struct}), tmp_path / "b.parquet")
    rows = list(LooseImages(str(tmp_path)).rows())
    assert [(row.id, row.image, row.problem) for row in rows] == [
        ("7", b"1", None),
        ("8", b"", "no image"),
        ("b.parquet:0", b"x", None),
        ("b.parquet:1", b"", "no image"),
    ]


def test_of_a_folder_without_a_picture_every_file_is_named(tmp_path: Path) -> None:
    put(tmp_path, "in/notes.txt")
    put(tmp_path, "clip.mov")
    assert [(row.id, row.problem) for row in LooseImages(str(tmp_path)).rows()] == [
        ("clip.mov", "a video: export frames as images"),
        ("in/notes.txt", ".txt file, not an image"),
    ]


@pytest.mark.parametrize(
    ("name", "lacks"), [("", "no images"), ("nothing", "no such file"), ("*.png", "no images")]
)
def test_nothing_to_classify_is_said(tmp_path: Path, name: str, lacks: str) -> None:
    put(tmp_path, ".hidden")
    with pytest.raises(SourceError, match=f"{lacks}; give a folder"):
        LooseImages(str(tmp_path / name))


def test_parquet_without_images_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"picture": [b"1"]}), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="no column 'image'"):
        LooseImages(str(tmp_path / "a.parquet"))
    pq.write_table(pa.table({"image": ["text"]}), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="column 'image' is string"):
        list(LooseImages(str(tmp_path / "a.parquet")).rows())


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array([10**15], pa.timestamp("s", tz="Not/AZone")), "column 'id' is timestamp"),
        (pa.array([[1]]), "column 'id' is list"),
        (pa.array([b"\xff"]), "column 'id' is binary"),
    ],
)
def test_ids_that_are_no_text_are_one_line(tmp_path: Path, column: pa.Array, reason: str) -> None:
    pq.write_table(pa.table({"image": [b"x"], "id": column}), tmp_path / "t.parquet")
    with pytest.raises(SourceError, match=reason):
        ids(tmp_path / "t.parquet")


def test_two_columns_of_ids_are_one_line(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([b"x"])] * 3, names=["image", "id", "id"])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(SourceError, match="two columns 'id'"):
        ids(tmp_path / "t.parquet")
