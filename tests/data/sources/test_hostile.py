"""Names and tables of a few kilobytes that would cost minutes: refused, or read at once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pipeline.data.sources import open_source
from pipeline.data.sources.layout import GENERIC, part_of, parts_of
from pipeline.data.sources.recognise import recognise
from pipeline.data.sources.table import MOST_COLUMNS
from pipeline.data.trees.tree import DEEPEST
from pipeline.errors import SourceError
from tests.data.helpers import encoded, noise

SECONDS = 10.0  # each takes a hundredth of it


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of three images."""
    for kind in ("cat", "dog"):
        (tmp_path / kind).mkdir()
        for number in range(3):
            path = tmp_path / kind / f"{number}.png"
            path.write_bytes(encoded(noise(number + 10 * len(list(tmp_path.iterdir())))))
    return tmp_path


def read(path: Path) -> int:
    """The number of rows of what is there, read within SECONDS."""
    start = time.process_time()
    try:
        return len(list(open_source(recognise(str(path)), str(path), seed=0).rows()))
    finally:
        assert time.process_time() - start < SECONDS


def table(folder: Path, header: str, end: str = "", front: str = "", label_end: str = "") -> Path:
    """A table of the six images, with the same texts around each path and label."""
    rows = [
        f"{front}{kind}/{number}.png,{kind}{label_end}{end}"
        for kind in ("cat", "dog")
        for number in range(3)
    ]
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *rows]))
    return path


@pytest.mark.parametrize(
    "name",
    [
        *("dataset" * 36 + "!", "jpegimages" * 25 + "!", "images" * 40 + "é"),
        *("9" * 250 + "x", "9" * 10**6),
    ],
    ids=lambda name: name[:10],
)
def test_a_name_of_many_parts_takes_no_exponential_time(name: str) -> None:
    start = time.process_time()
    part_of(name)
    parts_of([name])
    GENERIC.fullmatch(name[:255].lower())
    assert time.process_time() - start < SECONDS


def test_names_of_several_words_are_still_known() -> None:
    for name in ("dataset", "imagesdataset", "jpegimages"):
        assert GENERIC.fullmatch(name)
    assert part_of("train_dataset_2") == part_of("imagesdataset_train12set") == "train"


def test_folders_in_each_other_have_a_limit(tmp_path: Path) -> None:
    inner = tmp_path
    for _ in range(DEEPEST + 2):
        inner = inner / "a"
    inner.mkdir(parents=True)
    (inner / "0.png").write_bytes(encoded(noise(0)))
    with pytest.raises(SourceError, match=f"over {DEEPEST} folders in each other"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({"label_end": " " * 100_000 + "x"}, 6),
        ({"label_end": "9" * 100_000}, 6),
        ({"label_end": "|" * 100_000}, 6),
        ({"front": "a/" * 50_000}, None),
        ({"front": "/home/someone/images/"}, 6),
        ({"end": ",0" * 3 * MOST_COLUMNS}, None),
        ({"end": "\n" * 10_000}, 6),
    ],
)
def test_a_table_of_long_cells_or_many_columns(
    folder: Path, changes: dict[str, str], rows: int | None
) -> None:
    header = "path,label" + ",c" * (3 * MOST_COLUMNS if changes.get("end", "")[:1] == "," else 0)
    path = table(folder, header, **changes)
    if rows is None:
        with pytest.raises(SourceError):
            read(path)
    else:
        assert read(path) == rows


@pytest.mark.parametrize("name", [".", "./", "cat/.", "cat", "a\x1b[2J", "\u202e", "a" * 5000, "~"])
def test_a_path_that_is_no_file_is_a_problem_of_its_row(folder: Path, name: str) -> None:
    path = table(folder, "path,label")
    path.write_text(f"{path.read_text()}\n{name},cat\n", encoding="utf-8")
    rows = list(open_source("manifest", str(path), seed=0).rows())
    assert [row.problem for row in rows if row.problem] == ["unreadable: No such file or directory"]


def test_a_class_whose_bytes_are_no_text_is_named_by_escapes(folder: Path) -> None:
    os.rename(folder / "cat", os.path.join(os.fsencode(folder), b"\xff\n"))  # noqa: PTH104, PTH118
    assert open_source("folder", str(folder), seed=0).classes == ["dog", "\\xff\n"]
