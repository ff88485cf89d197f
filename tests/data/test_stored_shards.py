from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from pipeline.data.preparation.shard_writer import write_shards
from pipeline.data.shards import (
    IMAGE_SCHEMA,
    MANIFEST,
    Manifest,
    iter_shards,
    read_manifest,
    write_manifest,
    write_shard,
)
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import (
    IN_USE,
    OBJECT_NAME,
    PREFIX_NAME,
    derived_entries,
    stored_prefix,
    upload_shards,
    write_derived,
)
from pipeline.data.tensors import load_images
from pipeline.errors import DataError
from tests.data.helpers import ids
from tests.tiny import prepared_stripes

TABLE = pa.table({"id": ["a", "b"], "scores": [[0.5, 0.25], [1.0, 2.0]]})


def some_rows(count: int) -> list[dict[str, Any]]:
    return [{"id": f"r{n}", "image": bytes([n % 256]) * n, "label": n} for n in range(count)]


def uploaded(folder: Path, url: str, count: int = 9) -> Manifest:
    write_shards(folder, some_rows(count), IMAGE_SCHEMA, rows_per_shard=4, metadata={"channels": 1})
    return upload_shards(folder, StoredFolder(url), "unlabeled")


def prefix_of(manifest: Manifest) -> StoredFolder:
    assert manifest.shards[0].prefix is not None
    return StoredFolder(manifest.shards[0].prefix)


def test_only_the_manifest_stays_and_every_row_comes_back(storage_url: str, tmp_path: Path) -> None:
    folder, local = tmp_path / "stored", tmp_path / "local"
    manifest = uploaded(folder, storage_url)
    assert [path.name for path in folder.iterdir()] == [MANIFEST]
    assert read_manifest(folder) == manifest
    assert [row for table in iter_shards(folder) for row in table.to_pylist()] == some_rows(9)
    ids = [row["id"] for table in iter_shards(folder, ["id"]) for row in table.to_pylist()]
    assert ids == [f"r{n}" for n in range(9)]
    write_shards(local, some_rows(9), IMAGE_SCHEMA, rows_per_shard=4, metadata={"channels": 1})
    without_prefix = json.loads((folder / MANIFEST).read_text())
    assert without_prefix.pop("prefix").startswith(storage_url.partition("?")[0])
    assert without_prefix == json.loads((local / MANIFEST).read_text())


def test_without_storage_or_shards_a_folder_stays_as_it_is(
    storage_url: str, tmp_path: Path
) -> None:
    write_shards(tmp_path / "a", some_rows(3), IMAGE_SCHEMA, rows_per_shard=2)
    write_manifest(tmp_path / "b", [])
    for folder, storage in ((tmp_path / "a", None), (tmp_path / "b", StoredFolder(storage_url))):
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        upload_shards(folder, storage, "test")
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert StoredFolder(storage_url).listing() == []


def test_the_same_content_is_found_and_not_sent_again(tmp_path: Path) -> None:
    url = (tmp_path / "storage").as_uri()
    first = uploaded(tmp_path / "first", url)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "storage").rglob("*.parquet")}
    assert len(times) == 3
    assert uploaded(tmp_path / "second", url) == first
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert (tmp_path / "first" / MANIFEST).read_bytes() == (
        tmp_path / "second" / MANIFEST
    ).read_bytes()


def test_other_content_and_another_kind_have_another_prefix(
    storage_url: str, tmp_path: Path
) -> None:
    manifests = [uploaded(tmp_path / str(count), storage_url, count) for count in (8, 9)]
    write_shards(tmp_path / "test", some_rows(9), IMAGE_SCHEMA, rows_per_shard=4)
    manifests.append(upload_shards(tmp_path / "test", StoredFolder(storage_url), "test"))
    names = {prefix_of(manifest).name for manifest in manifests}
    assert len(names) == 3
    assert all(PREFIX_NAME.fullmatch(name) for name in names)
    listed = StoredFolder(storage_url).listing()
    assert {item.path.split("/")[1] for item in listed} == names
    assert all(OBJECT_NAME.fullmatch(item.path.split("/")[2]) for item in listed)


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_object_is_refused_and_mended(
    storage_url: str, tmp_path: Path, damage: str
) -> None:
    manifest = uploaded(tmp_path / "a", storage_url)
    entry, prefix = manifest.shards[1], prefix_of(manifest)
    data = bytearray(prefix.read(entry.stored_name).to_pybytes())
    data[len(data) // 2] ^= 1
    prefix.remove(entry.stored_name)
    if damage != "gone":
        prefix.write(entry.stored_name, bytes(data) if damage == "flip" else bytes(data[:-20]))
    with pytest.raises(DataError) as caught:
        list(iter_shards(tmp_path / "a"))
    message = str(caught.value)
    assert prefix.object_uri(entry.stored_name) in message
    assert str(tmp_path / "a" / MANIFEST) in message
    assert "\n" not in message
    if damage == "flip":  # of the right size: the message says to remove it first
        assert "remove it" in message
        prefix.remove(entry.stored_name)
    uploaded(tmp_path / "b", storage_url)
    assert sum(table.num_rows for table in iter_shards(tmp_path / "a")) == 9


@pytest.mark.parametrize("prefix", ["", 7, "/etc", "ftp://host/x", "s3://key:secret@bucket/x"])
def test_a_manifest_with_a_prefix_that_makes_no_sense_is_refused(
    tmp_path: Path, prefix: Any
) -> None:
    write_shards(tmp_path, some_rows(3), IMAGE_SCHEMA, rows_per_shard=4)
    value = json.loads((tmp_path / MANIFEST).read_text()) | {"prefix": prefix}
    (tmp_path / MANIFEST).write_text(json.dumps(value))
    with pytest.raises(DataError, match="prefix = "):
        read_manifest(tmp_path)


def test_a_worker_s_shard_has_the_bytes_of_a_local_one(storage_url: str, tmp_path: Path) -> None:
    prefix = stored_prefix(StoredFolder(storage_url), "predictions", "0" * 64)
    entry = write_derived(prefix, "shard_00003.parquet", TABLE)
    local = write_shard(tmp_path / "shard_00003.parquet", TABLE)
    assert (entry.file, entry.rows, entry.sha256) == (local.file, local.rows, local.sha256)
    names = ["shard_00002.parquet", "shard_00003.parquet"]
    assert derived_entries(prefix, names) == [None, entry]
    write_manifest(tmp_path / "folder", [entry])
    assert [table.to_pylist() for table in iter_shards(tmp_path / "folder")] == [TABLE.to_pylist()]


@pytest.mark.parametrize("damage", ["no note", "half a note", "no object", "cut object"])
def test_a_shard_of_which_a_part_is_missing_is_not_there(storage_url: str, damage: str) -> None:
    prefix = stored_prefix(StoredFolder(storage_url), "predictions", "0" * 64)
    entry = write_derived(prefix, "shard_00000.parquet", TABLE)
    victim = "shard_00000.json" if "note" in damage else entry.stored_name
    data = prefix.read(victim).to_pybytes()
    prefix.remove(victim)
    if not damage.startswith("no "):
        prefix.write(victim, data[: len(data) // 2])
    assert derived_entries(prefix, [entry.file]) == [None]
    assert write_derived(prefix, entry.file, TABLE) == entry
    assert derived_entries(prefix, [entry.file]) == [entry]


def test_of_two_results_for_one_shard_one_wins_whole(storage_url: str) -> None:
    """Two workers that predict the same shard to other bytes, as two kinds of GPU may."""
    prefix = stored_prefix(StoredFolder(storage_url), "predictions", "0" * 64)
    first = write_derived(prefix, "shard_00000.parquet", TABLE)
    second = write_derived(prefix, "shard_00000.parquet", TABLE.slice(1))
    assert derived_entries(prefix, [first.file]) == [second]
    assert prefix.read(first.stored_name).size > 0  # what names the first still finds it


def test_prepared_images_are_the_same_from_storage(storage_url: str, tmp_path: Path) -> None:
    prepared_stripes(tmp_path / "local")
    prepared_stripes(tmp_path / "stored", storage=StoredFolder(storage_url))
    names = {path.name for path in (tmp_path / "stored").rglob("*") if path.is_file()}
    alone = {"unlabeled_truth.parquet", "quarantine.parquet", "dataset.json"}
    assert names == {MANIFEST} | alone
    for name in alone:
        assert (tmp_path / "stored" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
    for part in ("labeled", "unlabeled", "validation", "test"):
        one, other = (load_images(tmp_path / where / part) for where in ("local", "stored"))
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.targets, other.targets)
        assert ids(tmp_path / "local", part) == ids(tmp_path / "stored", part)


def test_a_used_prefix_is_marked_each_time(tmp_path: Path) -> None:
    url = (tmp_path / "storage").as_uri()
    prefix = prefix_of(uploaded(tmp_path / "a", url))
    mark = next((tmp_path / "storage").rglob(IN_USE))
    before = mark.stat().st_mtime_ns
    uploaded(tmp_path / "b", url)
    assert mark.stat().st_mtime_ns > before
    assert IN_USE in prefix.sizes()
