"""What the report takes from the files of a run."""

from pathlib import Path

import pyarrow as pa

from pipeline.data.shards import write_shard
from pipeline.report.gather import training_curve, unused_files
from pipeline.train.history import Point, write_curves


def test_a_model_without_pseudo_labels_has_no_loss_on_them(tmp_path: Path) -> None:
    losses = {"loss": 2.0, "loss_labeled": 2.0, "loss_pseudo": 0.0, "learning_rate": 0.1}
    write_curves(tmp_path, [Point(10, losses), Point(20, losses | {"val/accuracy": 0.5})])
    assert training_curve(tmp_path, taught=False).loss_pseudo == ()
    assert training_curve(tmp_path, taught=True).loss_pseudo == (0.0, 0.0)
    assert training_curve(tmp_path, taught=False).loss_labeled == (2.0, 2.0)


def test_files_that_are_not_used_are_counted_by_reason(tmp_path: Path) -> None:
    rows = {"a": "a copy of 'x'", "b": "cut", "c": "a copy of 'y\nz'", "d": "cut", "e": "cut"}
    table = pa.table({"id": list(rows), "reason": list(rows.values())})
    write_shard(tmp_path / "quarantine.parquet", table)
    assert unused_files(tmp_path / "quarantine.parquet") == [
        ("cut", 3, "b"),
        ("a copy of a held-out image", 2, "a"),
    ]
