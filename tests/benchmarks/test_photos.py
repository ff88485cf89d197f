"""The benchmark on photographs keeps its protocol; a tiny set goes through every method of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from benchmarks import photos, photos_methods, runs
from benchmarks.photos import Task, parameters, run_task, summary, table, tasks
from benchmarks.photos_data import SOURCES, Source, balanced_split
from benchmarks.runs import put_table
from pipeline.params import Params
from tests.data.helpers import encoded

SIDE = 16
SOURCE = Source("pictures.parquet", "pictures.parquet", SIDE, num_train=24)
TASK = Task("pictures", 3, 0)


def pictures(path: Path) -> None:
    """30 training and 10 test images of two classes, stripes across or along, with noise."""
    generator = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for number in range(40):
        stripes = np.arange(SIDE) // 2 % 2 * 120
        pixels = np.broadcast_to(stripes[:, None] if number % 2 else stripes, (SIDE, SIDE))
        noisy = pixels[..., None] + generator.integers(0, 60, (SIDE, SIDE, 3))
        split = "train" if number < 30 else "test"
        image = encoded(noisy.astype(np.uint8))
        rows.append({"image": image, "label": np.int32(number % 2), "split": split})
    made = pa.Table.from_pylist(rows).replace_schema_metadata({"classes": "across|along"})
    pq.write_table(made, path)


def few_steps(task: Task, source: Source) -> Params:
    """The preset with a few steps of small images."""
    params = parameters(task, source)
    return params.model_copy(
        update={
            "embed": params.embed.model_copy(update={"input_size": SIDE}),
            "model": params.model.model_copy(update={"input_size": SIDE}),
            "train": params.train.model_copy(update={"steps": 2, "batch_size": 4}),
            "transfer": params.transfer.model_copy(update={"trial_steps": 1}),
            "controls": {"longer": params.controls["longer"].model_copy(update={"steps": 2})},
        }
    )


def test_a_tiny_set_goes_through_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "KEPT", tmp_path / "kept")
    pictures(tmp_path / "pictures.parquet")
    found = run_task(TASK, tmp_path, few_steps, {"pictures": SOURCE})
    ours = {method for method in photos.METHODS if "scratch" not in method}
    assert found.keys() == ours | {"mode"}
    assert found["mode"] in ("head", "layerwise")
    assert all(0 <= found[method] <= 1 for method in ours)
    assert found["logistic regression"] == found["generation 0"] > 0.7
    for name in ("mode", "peers", "generations", "control"):
        monkeypatch.setattr(f"benchmarks.photos_methods.{name}", None)
    assert run_task(TASK, tmp_path, few_steps, {"pictures": SOURCE}) == found


def test_labels_are_balanced_drawn_by_split_and_the_others_unlabelled() -> None:
    labels: NDArray[np.int64] = np.arange(60) % 3
    chosen, others = balanced_split(labels, 4, 0)
    assert np.bincount(labels[chosen]).tolist() == [4, 4, 4]
    assert sorted([*chosen, *others]) == list(range(60))
    assert chosen.tolist() == balanced_split(labels, 4, 0)[0].tolist()
    assert chosen.tolist() != balanced_split(labels, 4, 1)[0].tolist()


def test_parameters_are_the_preset_s_on_one_thread() -> None:
    params = parameters(Task("EuroSAT", 10, 3), SOURCES["EuroSAT"])
    assert (params.seed, params.data.image_size, params.train.threads) == (3, 64, 1)
    assert params.transfer.mode == "auto"
    assert len(params.generations) == 3
    assert photos_methods.CONTROL in params.controls


def results() -> dict[Task, dict[str, Any]]:
    """Two splits of EuroSAT with 100 labels, and one from scratch."""
    done: dict[Task, dict[str, Any]] = {}
    for split in (1, 0):
        values = dict.fromkeys(photos.METHODS[:7], 0.8 + 0.02 * split)
        last = {"generation 3": 0.9 + 0.02 * split, "mode": "layerwise"}
        done[Task("EuroSAT", 10, split)] = values | last
    done[Task("EuroSAT", 10, 0, "scratch")] = {"from scratch, generation 0": 0.5}
    return done


def test_rows_have_means_and_intervals_and_gains_are_paired() -> None:
    found = summary(results())
    rows = {row["method"]: row for row in found["rows"]}
    assert {row["labels"] for row in rows.values()} == {100}
    last = rows["generation 3"]
    assert last["splits"] == [pytest.approx(90), pytest.approx(92)]
    assert (last["mean"], last["high"]) == (pytest.approx(91), pytest.approx(91 + 12.706, abs=0.01))
    assert rows["from scratch, generation 0"]["low"] is None
    (gain,) = (row for row in found["gain over control"] if row["method"] == "generation 3")
    assert (gain["low"], gain["high"]) == (pytest.approx(10), pytest.approx(10))


def test_the_page_shows_the_table_where_it_names_it(tmp_path: Path) -> None:
    found, page = summary(results()), tmp_path / "page.md"
    page.write_text("Before.\n\n<!-- results of photos -->\n<!-- end -->\n\nAfter.\n")
    put_table(page, "photos", table(found))
    text = page.read_text()
    assert "| generation 3 | 91.0 ± 12.7 |" in text
    assert "| gain of the last over `control` | +10.0 ± 0.0 |" in text
    assert "| students are networks | 2 of 2 splits |" in text
    put_table(page, "photos", table(found))
    assert page.read_text() == text
    assert table(found) in text
    assert "<!-- results of photos -->" in photos.PAGE.read_text(encoding="utf-8")


def test_every_set_is_run_and_the_long_one_last() -> None:
    listed = tasks()
    assert {task.name for task in listed} == SOURCES.keys() == photos.NUM_CLASSES.keys()
    assert {task.which for task in listed[-2:]} == {"scratch"}
    assert len(set(listed)) == len(listed)


def test_without_the_data_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["photos", "--data", str(tmp_path)])
    photos.main()
    shown = capsys.readouterr()
    assert "eurosat.parquet" in shown.out + shown.err
