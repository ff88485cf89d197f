"""Whatever a folder holds, each file is a row or left out, or the folder is refused."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.look import recognise
from pipeline.data.sources import open_source
from pipeline.errors import SourceError
from tests.data.helpers import encoded, noise

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
    st.sets(PATHS, min_size=1, max_size=30),
    st.dictionaries(PATHS, st.sampled_from(["cat", "dog", "", "nan", "-1", "None"]), max_size=30),
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    st.booleans(),
)
def test_every_file_beside_a_table_is_accounted_for(
    names: set[str], labels: dict[str, str], separator: str, encoding: str, whole: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), names)
        lines = ["path" + separator + "label"]
        for name, label in labels.items():
            lines.append(f'"{name if whole else name.rsplit(".", 1)[0]}"{separator}{label}')
        (Path(folder) / "labels.csv").write_bytes("\n".join(lines).encode(encoding))
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
