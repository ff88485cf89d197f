"""Sources in a bucket are the same as in a folder."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.preparation.listing import list_source
from pipeline.data.sources import Source, open_source
from pipeline.data.sources.recognise import recognise, unread_tables
from pipeline.data.storage import StoredFolder
from tests.data.helpers import encoded, noise, run_prepare
from tests.data.sources.test_parts import (
    coco,
    folder,
    manifest,
    masks,
    parquet,
    parquet_masks,
)
from tests.s3 import BUCKET, s3_url

SOURCES: list[tuple[Callable[[Path], Source], dict[str, Any]]] = [
    (folder, {"group_pattern": r"(g\d)_"}),
    (manifest, {}),
    (masks, {}),
    (coco, {}),
    (parquet, {}),
    (parquet_masks, {"task": "segmentation"}),
]


@pytest.fixture
def address(s3: str) -> str:
    return s3_url(s3, f"{BUCKET}/{uuid.uuid4().hex}")


def upload(root: Path, address: str) -> None:
    for path in root.rglob("*"):
        if path.is_file():
            StoredFolder(address).write(path.relative_to(root).as_posix(), path.read_bytes())


def below(address: str, name: str) -> str:
    return (StoredFolder(address) / name).uri


@pytest.mark.parametrize(("made", "given"), SOURCES)
def test_a_source_in_a_bucket_has_the_rows_of_the_folder(
    tmp_path: Path, address: str, made: Callable[[Path], Source], given: dict[str, Any]
) -> None:
    (tmp_path / "images").mkdir()
    local = made(tmp_path / "images")
    upload(tmp_path / "images", address)
    remote = open_source(local.name, address, seed=0, **given)
    assert list(remote.rows()) == list(local.rows())
    part = pickle.loads(pickle.dumps(remote.part(8, 19)))
    assert list(part) == list(local.part(8, 19))
    assert len(pickle.dumps(part)) < 3000 or made is coco
    assert remote.classes == local.classes
    assert list(remote.left_out) == list(local.left_out)
    assert remote.notes == local.notes
    assert recognise(address) == recognise(str(tmp_path / "images"))


def test_the_same_bytes_are_prepared_from_a_bucket(tmp_path: Path, address: str) -> None:
    (tmp_path / "images").mkdir()
    run_prepare(folder(tmp_path / "images"), tmp_path / "here")
    upload(tmp_path / "images", address)
    remote = open_source("folder", address, seed=0, group_pattern=r"(g\d)_")
    run_prepare(remote, tmp_path / "there")
    files = [path for path in (tmp_path / "here").rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        other = tmp_path / "there" / path.relative_to(tmp_path / "here")
        assert other.read_bytes() == path.read_bytes(), path.name


def test_a_table_in_a_bucket_leads_to_objects(tmp_path: Path, address: str) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/3.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(noise(len(name))))
    where = address.split("?")[0]
    lines = [f"{where}/a/1.png,cat", f"{where}/b/3.jpg,dog", f"{where}/a/2.png,", "a/gone.png,cat"]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *lines]))
    upload(tmp_path, address)
    table = below(address, "labels.csv")
    assert recognise(table) == recognise(address) == "manifest"
    rows = list(open_source("manifest", table, seed=0).rows())
    assert [(row.id, row.label) for row in rows] == [
        ("a/1.png", 0),
        ("b/3.jpg", 1),
        ("a/2.png", None),
        ("a/gone.png", 0),
    ]
    assert [row.problem for row in rows[2:]] == [None, "unreadable: No such file or directory"]
    assert [row.id for row in open_source("manifest", address, seed=0).rows()][4:] == ["b/1.png"]
    assert unread_tables(address)[0].startswith("labels.csv names images too")


def test_a_listing_of_a_bucket_changes_with_its_objects(tmp_path: Path, address: str) -> None:
    for name, data in (("a/1.png", b"1"), ("a/2.png", b"22"), (".x", b"3"), ("t.parquet", b"444")):
        StoredFolder(address).write(name, data)

    def digest(path: str) -> tuple[int, int, str]:
        found = list_source(path, tmp_path / "cache", project=tmp_path)
        return found.files, found.bytes, found.digest

    before, table = digest(address), digest(below(address, "t.parquet"))
    assert before[:2] == (3, 6)
    assert table[:2] == (1, 3)
    assert digest(address) == before
    StoredFolder(address).write("a/2.png", b"four")
    assert digest(address)[2] != before[2]
    assert digest(below(address, "t.parquet")) == table
