from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.sources import open_source
from pipeline.errors import SourceError
from tests.data.helpers import encoded, noise, run_prepare
from tests.data.sources.test_folder import put


def read(path: Path) -> list[tuple[str, int | None, str | None, str | None]]:
    source = open_source("manifest", str(path), seed=0)
    found = list(source.rows())
    assert len(source) == len(found)
    return [(row.id, row.label, row.split, row.problem) for row in found]


def test_a_csv_lists_all_there_is(tmp_path: Path) -> None:
    for name in ("a.png", "in/b.png", "c.png", "unlisted.png"):
        put(tmp_path, name)
    put(
        tmp_path,
        "my.csv",
        "\ufeffpath,label,split\na.png, dog ,\nin/b.png,cat,test\nc.png,,\n".encode(),
    )
    assert open_source("manifest", str(tmp_path / "my.csv"), seed=0).classes == ["cat", "dog"]
    assert read(tmp_path / "my.csv") == [
        ("a.png", 1, None, None),
        ("in/b.png", 0, "test", None),
        ("c.png", None, None, None),
    ]


def test_what_a_folders_csv_does_not_list_is_unlabelled(tmp_path: Path) -> None:
    for name in ("a.png", "in/b.png", "c.png"):
        put(tmp_path, name)
    put(tmp_path, "labels.csv", b"Filename,Class,extra\nin/../a.png,0,\ngone.png,1,x\n")
    put(tmp_path, "other.csv", b"when,what\n1,2\n")
    assert read(tmp_path) == [
        ("a.png", 0, None, None),
        ("gone.png", 1, None, "unreadable: No such file or directory"),
        ("c.png", None, None, None),
        ("in/b.png", None, None, None),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"path,kind\na.png,1\n", "needs columns path and label"),
        (b"path,label\na.png,\n", "every label is empty"),
        (b"path,label\n,cat\n", "row 2: no path"),
        (b"path,label\n../b.png,cat\n", "row 2: path = '../b.png' lies outside"),
        (b"path,label\nin/../../b.png,cat\n", "lies outside"),
        (b"path,label\n/etc/b.png,cat\n", "lies outside"),
        (b"path,label\na\0.png,cat\n", "lies outside|can't be read"),
        (b"", "needs columns"),
        (b"path,label\n\xff\xfe,1\n", "leads to no files below .* set data.path_column"),
    ],
)
def test_a_csv_that_says_too_little_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    put(tmp_path, "my.csv", text)
    with pytest.raises(SourceError, match=message):
        read(tmp_path / "my.csv")


def test_a_folder_needs_one_csv(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no CSV"):
        read(tmp_path)
    with pytest.raises(SourceError, match="no such CSV"):
        read(tmp_path / "my.csv")
    for name in ("a.csv", "b.csv"):
        put(tmp_path, name, b"path,label\nx.png,1\n")
    with pytest.raises(SourceError, match=r"several CSV .*a\.csv, b\.csv"):
        read(tmp_path)


def test_a_manifest_is_prepared(tmp_path: Path) -> None:
    lines = ["path,label"]
    for number in range(40):
        put(tmp_path, f"in/{number}.png", encoded(noise(number)))
        lines += [f"{number}.png,{'ab'[number % 2]}"] if number < 16 else []
    put(tmp_path, "in/labels.csv", "\n".join(lines).encode())
    counts = run_prepare(open_source("manifest", str(tmp_path / "in"), seed=0), tmp_path / "out")
    assert counts.unlabeled == 24
