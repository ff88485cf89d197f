"""The benchmarks of what is large: their inputs are real ones, and their arithmetic is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.ingest import bare, streamed, write_pictures
from benchmarks.scaling import make_inputs, twice
from benchmarks.selection import generate, images_that_differ, rows_of
from pipeline.labels.predict import ShardPredictor
from pipeline.train.inputs import training_data


def test_two_workers_are_compared_with_twice_one() -> None:
    row = twice("training", {1: lambda: 10.0, 2: lambda: 17.0}, 3)
    assert (row.ours, row.reference) == (17.0, 20.0)
    assert row.ratio == pytest.approx(0.85)
    assert row.met


def test_the_inputs_of_scaling_can_be_trained_on_and_predicted(tmp_path: Path) -> None:
    make_inputs(tmp_path, "resnet_small", shards=2, rows=16)
    data = training_data(tmp_path / "prepared", None, threads=1, cache_gib=1.0)
    assert data.images.shape == (1024, 3, 32, 32)
    predictor = ShardPredictor(
        models=(tmp_path / "model",),
        folder=tmp_path / "prepared" / "unlabeled",
        out=tmp_path / "out",
        views="centre",
        jitter_views=1,
        batch_size=16,
        seed=0,
    )
    assert [predictor(number) for number in (0, 1)] == [16, 16]


def test_generated_predictions_are_selected_as_a_full_sort_does(tmp_path: Path) -> None:
    generate(tmp_path / "predictions", 5000, 10, 1)
    assert images_that_differ(tmp_path / "predictions", tmp_path, 1) == 0


def test_a_size_of_the_selection_comes_to_rows_of_the_table() -> None:
    case = {
        "rows": 1_000_000,
        "classes": 10,
        "differ": 0,
        "peak_mib": 148.0,
        "cpu_seconds": 0.5,
        "rates": {"choice": [4e6, 2e6], "full sort": [1e6, 1e6], "written": [5e5, 5e5]},
    }
    rows = {row.name.partition(": ")[2]: row for row in rows_of([case])}
    assert (rows["chosen"].ours, rows["chosen"].met) == (3.0, True)
    assert rows["against a full sort"].ratio == pytest.approx(3.0)
    assert rows["that differ"].met
    assert rows["processor time"].ours == pytest.approx(500.0)


def test_a_stream_and_a_bare_read_see_the_same_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path, 1024, 32, rows_per_shard=300)
    assert streamed(tmp_path, 1024, 1) > 0
    assert bare(tmp_path, 32, 1024, 1) > 0
