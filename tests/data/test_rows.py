from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.data.preparation.shard_writer import write_shards
from pipeline.data.rows import find_rows, read_rows
from pipeline.data.storage import open_storage
from pipeline.data.stored_shards import upload_shards
from pipeline.errors import DataError

SCHEMA = pa.schema([("id", pa.string()), ("value", pa.int32())])


def folder(path: Path, count: int = 23) -> Path:
    rows = [{"id": f"row {number}", "value": number} for number in range(count)]
    write_shards(path, rows, SCHEMA, rows_per_shard=5)
    return path


@pytest.mark.parametrize("rows", [[], [0], [22, 3, 4, 5, 0, 9, 22], list(range(22, -1, -1))])
def test_rows_come_in_the_order_they_were_asked_for(tmp_path: Path, rows: list[int]) -> None:
    assert read_rows(folder(tmp_path), rows, ["value"])["value"].to_pylist() == rows


def test_only_the_shards_of_the_rows_are_read(tmp_path: Path) -> None:
    there = folder(tmp_path)
    (there / "shard_00000.parquet").write_bytes(b"cut")
    (there / "shard_00002.parquet").unlink()
    assert read_rows(there, [21, 7], ["id"])["id"].to_pylist() == ["row 21", "row 7"]
    with pytest.raises(DataError, match="shard_00002"):
        read_rows(there, [12], ["id"])


@pytest.mark.parametrize("row", [-1, 23])
def test_a_row_that_is_not_there_is_refused(tmp_path: Path, row: int) -> None:
    with pytest.raises(IndexError, match="23 rows"):
        read_rows(folder(tmp_path), [1, row], ["id"])


def test_rows_are_found_by_id(tmp_path: Path) -> None:
    found = find_rows(folder(tmp_path), ["row 17", "row 2", "nobody"])
    assert found == {"row 17": 17, "row 2": 2}


def test_shards_in_storage_are_read_too(tmp_path: Path, storage_url: str) -> None:
    there = folder(tmp_path / "labeled")
    upload_shards(there, open_storage(storage_url), "labeled")
    assert not list(there.glob("*.parquet"))
    assert read_rows(there, [19, 1], ["value"])["value"].to_pylist() == [19, 1]
