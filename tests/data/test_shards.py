from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import progress
from pipeline.data.preparation.shard_writer import ShardWriter, write_shards
from pipeline.data.shards import (
    MANIFEST,
    check_shard,
    iter_shards,
    manifest_digest,
    read_manifest,
    shown_shards,
    write_manifest,
    write_shard,
)
from pipeline.errors import DataError
from pipeline.files import file_digest

SCHEMA = pa.schema([("id", pa.string()), ("image", pa.binary()), ("label", pa.int32())])


def some_rows(count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"r{n}", "image": bytes([n % 256]) * n, "label": n or None} for n in range(count)
    ]


@pytest.mark.parametrize(("count", "per_shard"), [(0, 4), (1, 4), (4, 4), (10, 4), (2500, 2100)])
def test_rows_come_back_in_order(tmp_path: Path, count: int, per_shard: int) -> None:
    rows = some_rows(count)
    manifest = write_shards(tmp_path, rows, SCHEMA, rows_per_shard=per_shard)
    assert manifest.rows == count
    assert [e.rows for e in manifest.shards[:-1]] == [per_shard] * (len(manifest.shards) - 1)
    assert [row for table in iter_shards(tmp_path) for row in table.to_pylist()] == rows


def test_shards_are_shown_as_they_go_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    write_shards(tmp_path, some_rows(10), SCHEMA, rows_per_shard=4)
    tables = list(shown_shards(tmp_path, ["id"], "report: galleries"))
    assert [table.num_rows for table in tables] == [4, 4, 2]
    assert tables[0].column_names == ["id"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0].split(" images")[0] for line in lines] == [
        "report: galleries: 4/10",
        "report: galleries: 8/10",
        "report: galleries: 10/10",
    ]


def test_same_rows_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_shards(tmp_path / name, some_rows(50), SCHEMA, rows_per_shard=20)
    first, second = (sorted((tmp_path / name).iterdir()) for name in "ab")
    assert [path.name for path in first] == [
        f"{MANIFEST}",
        *(f"shard_0000{n}.parquet" for n in "012"),
    ]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert manifest_digest(tmp_path / "a") == manifest_digest(tmp_path / "b")


def test_manifest_names_rows_digests_and_metadata(tmp_path: Path) -> None:
    write_shards(tmp_path, some_rows(5), SCHEMA, rows_per_shard=4, metadata={"channels": 1})
    value = json.loads((tmp_path / MANIFEST).read_text())
    assert value["rows"] == 5
    assert value["metadata"] == {"channels": 1}
    assert [shard["rows"] for shard in value["shards"]] == [4, 1]
    for shard in value["shards"]:
        assert shard["sha256"] == file_digest(tmp_path / shard["file"])


def test_an_error_while_writing_leaves_no_manifest(tmp_path: Path) -> None:
    def write() -> None:
        with ShardWriter(tmp_path, SCHEMA, rows_per_shard=2) as writer:
            for row in some_rows(3):
                writer.add(row)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["shard_00000.parquet"]
    with pytest.raises(DataError, match="unfinished"):
        read_manifest(tmp_path)


def test_single_shards_make_a_folder(tmp_path: Path) -> None:
    table = pa.table({"id": ["a"], "scores": [[0.5, 0.25]]})
    entry = write_shard(tmp_path / "shard_00007.parquet", table)
    write_manifest(tmp_path, [entry])
    assert [t.to_pylist() for t in iter_shards(tmp_path)] == [table.to_pylist()]


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_shard_is_refused(tmp_path: Path, damage: str) -> None:
    entry = write_shards(tmp_path, some_rows(9), SCHEMA, rows_per_shard=9).shards[0]
    path = tmp_path / entry.file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data if damage == "flip" else data[:-20])
    with pytest.raises(DataError, match=r"shard_00000\.parquet"):
        check_shard(tmp_path, entry)
    with pytest.raises(DataError):
        list(iter_shards(tmp_path))


def test_a_shard_that_is_no_parquet_is_refused_even_with_its_digest(tmp_path: Path) -> None:
    entry = write_shards(tmp_path, some_rows(3), SCHEMA, rows_per_shard=9).shards[0]
    (tmp_path / entry.file).write_bytes(b"PAR1 no, not really PAR1")
    text = (tmp_path / MANIFEST).read_text()
    digest = file_digest(tmp_path / entry.file)
    (tmp_path / MANIFEST).write_text(text.replace(entry.sha256, digest))
    with pytest.raises(DataError, match="not a readable shard"):
        list(iter_shards(tmp_path))


ENTRY = {"file": "shard_00000.parquet", "rows": 1, "sha256": "0" * 64}
BAD_MANIFESTS: list[Any] = [
    [],
    {},
    {"rows": 0, "shards": {}},
    {"rows": 2, "shards": [ENTRY]},
    {"rows": 2, "shards": [ENTRY, ENTRY]},
    {"rows": True, "shards": [ENTRY]},
    {"rows": 1, "shards": [ENTRY | {"rows": -1}]},
    {"rows": 1, "shards": [ENTRY | {"sha256": "xyz"}]},
    {"rows": 1, "shards": [ENTRY | {"file": "../secret.parquet"}]},
    {"rows": 1, "shards": [ENTRY | {"file": "/etc/secret.parquet"}]},
    {"rows": 1, "shards": [ENTRY | {"file": "sub/shard.parquet"}]},
    {"rows": 1, "shards": [ENTRY | {"file": 7}]},
    {"rows": 1, "shards": ["shard_00000.parquet"]},
    {"rows": 0, "shards": [], "metadata": []},
]


@pytest.mark.parametrize("value", BAD_MANIFESTS)
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path: Path, value: Any) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps(value))
    with pytest.raises(DataError, match=MANIFEST):
        read_manifest(tmp_path)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200) | st.text(alphabet='{}[]",:0', max_size=60).map(str.encode))
def test_any_bytes_as_manifest_end_in_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / MANIFEST).write_bytes(data)
    with pytest.raises(DataError):
        read_manifest(folder)
