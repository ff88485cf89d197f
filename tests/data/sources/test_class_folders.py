from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.sources import Row, open_source
from pipeline.errors import SourceError
from tests.data.helpers import encoded, noise, run_prepare
from tests.data.sources.test_folder import put


def rows(root: Path) -> list[tuple[str, int | None, str | None]]:
    source = open_source("class_folders", str(root), seed=0)
    found: list[Row] = list(source.rows())
    assert len(source) == len(found)
    return [(row.id, row.label, row.split) for row in found]


def test_each_folder_is_a_class_and_the_rest_unlabelled(tmp_path: Path) -> None:
    for name in ("dog/b.jpg", "cat/deep/a.png", "unlabeled/x/u.png", "loose.png", ".h/a.png"):
        put(tmp_path, name)
    put(tmp_path, "cat/notes.txt")
    assert open_source("class_folders", str(tmp_path), seed=0).classes == ["cat", "dog"]
    assert rows(tmp_path) == [
        ("cat/deep/a.png", 0, None),
        ("dog/b.jpg", 1, None),
        ("loose.png", None, None),
        ("unlabeled/x/u.png", None, None),
    ]


def test_train_val_and_test_hold_the_classes(tmp_path: Path) -> None:
    for name in ("train/a/1.png", "train/b/2.png", "val/a/3.png", "test/b/4.png"):
        put(tmp_path, name)
    put(tmp_path, "unlabeled/5.png")
    assert rows(tmp_path) == [
        ("train/a/1.png", 0, None),
        ("train/b/2.png", 1, None),
        ("val/a/3.png", 0, "validation"),
        ("test/b/4.png", 1, "test"),
        ("unlabeled/5.png", None, None),
    ]
    put(tmp_path, "test/c/6.png")
    with pytest.raises(SourceError, match="no class of that name"):
        rows(tmp_path)


def test_what_is_no_such_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        rows(tmp_path / "nothing")
    with pytest.raises(SourceError, match="holds no folders"):
        rows(tmp_path)
    put(tmp_path, "a/notes.txt")
    with pytest.raises(SourceError, match="no images"):
        rows(tmp_path)


def test_class_folders_are_prepared(tmp_path: Path) -> None:
    for number in range(20):
        put(tmp_path, f"in/{'ab'[number % 2]}/{number}.png", encoded(noise(number)))
        put(tmp_path, f"in/unlabeled/{number}.png", encoded(noise(100 + number)))
    source = open_source("class_folders", str(tmp_path / "in"), seed=0)
    counts = run_prepare(source, tmp_path / "out")
    assert counts.unlabeled == 20
    assert counts.labeled + counts.validation + counts.test == 20
