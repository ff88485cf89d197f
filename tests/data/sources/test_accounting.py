"""Whatever a folder holds, each file is a row or left out, or the folder is refused."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.sources import open_source
from pipeline.data.sources.recognise import recognise
from pipeline.errors import ParameterError, SourceError
from tests.data.helpers import encoded, noise

KINDS = st.sampled_from(["", "null", "-1", "nan", "0", "1", "cat", "dog"])
FOLDERS = st.sampled_from(
    [
        *("train", "Training", "test", "Test_Set", "val", "dev", "labeled", "unlabelled", "cat"),
        *("dog", "Cat", "images", "data", ".git", "__MACOSX", "extra", "train2017", "emu\n"),
    ]
)
FILES = st.sampled_from(
    [
        *("1.png", "2.PNG", "3", "4.txt", "5.heic", ".hidden", "Thumbs.db", "6.img", "a.b.jpg"),
        *("train", "test.csv", "7.parquet.bak"),
    ]
)
PATHS = st.tuples(st.lists(FOLDERS, max_size=4), FILES).map(
    lambda path: "/".join([*path[0], path[1]])
)
PICTURE = encoded(noise(1))


def labeled_some(names: set[str]) -> st.SearchStrategy[tuple[set[str], dict[str, str]]]:
    """The names, and labels of some of them and of few that are not there."""
    keys = st.sampled_from(sorted(names)) | st.sampled_from(["gone.png", "cat/3.png"])
    labels = st.sampled_from(["cat", "dog", "", "nan", "-1", "None"])
    return st.tuples(st.just(names), st.dictionaries(keys, labels, min_size=1, max_size=30))


def write(root: Path, names: set[str]) -> None:
    """The files of these names, pictures but for tables; those whose folder is a file are not."""
    for name in sorted(names):
        with contextlib.suppress(OSError):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"" if name.endswith(".txt") else PICTURE)


@settings(max_examples=60, deadline=None)
@given(st.sets(PATHS, min_size=1, max_size=40))
def test_every_file_of_a_folder_is_accounted_for(names: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), names)
        there = sorted(
            path.relative_to(folder).as_posix()
            for path in Path(folder).rglob("*")
            if path.is_file()
        )
        try:
            source = open_source(recognise(folder), folder, seed=0)
        except SourceError:
            return
        accounted = [*(row.id for row in source.rows()), *(name for name, _ in source.left_out)]
        assert sorted(accounted) == there
        assert len(source) == len(accounted) - len(source.left_out)


@settings(max_examples=60, deadline=None)
@given(
    st.sets(PATHS, min_size=1, max_size=30).flatmap(labeled_some),
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "/data/of/someone/", "C:\\\\pets\\\\"]),
    st.sampled_from(["labels.csv", "labels.txt"]),
)
def test_every_file_beside_a_table_is_accounted_for(
    named: tuple[set[str], dict[str, str]],
    separator: str,
    encoding: str,
    whole: bool,
    headed: bool,
    before: str,
    table: str,
) -> None:
    names, labels = named
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), names)
        lines = ["path" + separator + "label"] * headed
        for name, label in labels.items():
            lines.append(f'"{before}{name if whole else name.rsplit(".", 1)[0]}"{separator}{label}')
        (Path(folder) / table).write_bytes("\n".join(lines).encode(encoding))
        there = {
            path.relative_to(folder).as_posix()
            for path in Path(folder).rglob("*")
            if path.is_file()
        }
        try:
            source = open_source("manifest", folder, seed=0)
        except SourceError:
            return
        rows = [row.id for row in source.rows()]
        left_out = [name for name, _ in source.left_out]
        assert len(rows) == len(source) == len({*rows})
        assert not {*rows} & {*left_out}
        assert there <= {*rows, *left_out}


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(PATHS, st.lists(KINDS, max_size=4), min_size=1, max_size=12),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["label", "Class", "species"]),
)
def test_every_row_and_file_of_parquet_is_accounted_for(
    tables: dict[str, list[str]], numbers: bool, named: bool, label: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), {*tables})
        rows = 0
        for number, (name, labels) in enumerate(tables.items()):
            path = (Path(folder) / name).with_suffix(".parquet")
            if numbers:
                labels = [value for value in labels if value in ("null", "-1", "0", "1")]
            values = [None if value == "null" else value for value in labels]
            column = pa.array(values, pa.string())
            if numbers:
                column = column.cast(pa.int64())
            images = pa.array([PICTURE if value else None for value in values], pa.binary())
            table = pa.table({"image": images, label: column})
            if named:
                ids = [f"{number}-{row}" for row in range(len(labels))]
                table = table.append_column("id", pa.array(ids, pa.string()))
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(table, path)
        there = [path for path in Path(folder).rglob("*") if path.is_file()]
        try:
            source = open_source("parquet", folder, seed=0)
            ids = [row.id for row in source.rows()]
        except SourceError:
            return
        left_out = {name for name, _ in source.left_out}
        read = {path for path in there if path.relative_to(folder).as_posix() not in left_out}
        assert {path.suffix for path in read} == {".parquet"}
        rows = sum(pq.read_metadata(path).num_rows for path in read)
        assert len({*ids}) == len(ids) == len(source) == rows
        assert len(read) + len(left_out) == len(there)


def test_groups_come_from_the_paths(tmp_path: Path) -> None:
    for name in ("a/patient_1_x.png", "b/patient_2_x.png", "b/other.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(PICTURE)
    source = open_source("folder", str(tmp_path), seed=0, group_pattern=r"(patient_\d+)")
    assert [row.group for row in source.rows()] == ["patient_1", None, "patient_2"]
    assert source.notes == ["2 groups; 1 image of none"]
    for pattern, message in (("(", "no regular"), ("a", "has 0 groups"), ("(emu)", "matches no")):
        with pytest.raises(ParameterError, match=message):
            open_source("folder", str(tmp_path), seed=0, group_pattern=pattern)
