"""The benchmarks of speed run, small, and what they compare is the same work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import gpu, pseudo_labelling, training
from benchmarks.segmentation import __main__ as segmentation
from benchmarks.workers.__main__ import Stages
from pipeline.data.predictions import read_predictions
from pipeline.data.tensors import read_dataset
from pipeline.labels.predict import finish_predictions
from pipeline.models.passes import Passes
from pipeline.tasks.classification import TASK


@pytest.mark.slow
def test_training_gives_a_row() -> None:
    row = training.row_of("wrn_10_1", "float32", steps=1, rounds=1)
    assert row.ours > 0
    assert row.ratio == pytest.approx(row.ours / (row.reference or 0))


@pytest.mark.slow
def test_what_learns_masks_gives_rows(tmp_path: Path) -> None:
    rows = segmentation.measured(tmp_path, "unet_small", rounds=1, steps=1, images=8)
    assert min(row.ours for row in rows) > 0
    memory = rows[-1]
    assert memory.ours == pytest.approx(memory.reference, rel=0.5)


def test_the_bare_loop_predicts_as_many_images_as_there_are(tmp_path: Path) -> None:
    pseudo_labelling.make_model(tmp_path / "model", "wrn_10_1")
    images = tmp_path / "images"
    pseudo_labelling.write_pictures(images, 40, rows_per_shard=16)
    assert pseudo_labelling.bare_loop(tmp_path, Passes(images=16, channels_last=True)) > 0
    predictor = pseudo_labelling.predictor_of(tmp_path / "model", images, tmp_path / "out")
    torch.set_num_threads(1)
    for number in range(3):
        predictor(number)
    finish_predictions(images, tmp_path / "out", 10)
    found = np.concatenate([shard.values for shard in read_predictions(tmp_path / "out", TASK)])
    assert found.shape == (40, 10)


def test_two_workers_prepare_images_of_which_none_is_a_copy(tmp_path: Path) -> None:
    counts = Stages(tmp_path, 60).prepared(60, tmp_path / "work", None)
    assert (counts.seen, counts.quarantined, counts.duplicates_dropped) == (60, 0, 0)
    assert read_dataset(tmp_path / "work" / "prepared").image_size == 128


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "no GPU" in capsys.readouterr().out
