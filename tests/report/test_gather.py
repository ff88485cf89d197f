"""What the report takes from the files of a run."""

from pathlib import Path

import pyarrow as pa

from pipeline.data.shards import write_shard
from pipeline.report.gather import unused_files


def test_files_that_are_not_used_are_counted_by_reason(tmp_path: Path) -> None:
    rows = {"a": "a copy of 'x'", "b": "cut", "c": "a copy of 'y\nz'", "d": "cut", "e": "cut"}
    table = pa.table({"id": list(rows), "reason": list(rows.values())})
    write_shard(tmp_path / "quarantine.parquet", table)
    assert unused_files(tmp_path / "quarantine.parquet") == [
        ("cut", 3, "b"),
        ("a copy of a held-out image", 2, "a"),
    ]
