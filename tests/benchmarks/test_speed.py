"""The benchmarks of speed run, small, and what they compare is the same work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import RandAugment

from benchmarks import (
    augmentation,
    decoding,
    evaluation,
    gpu,
    pseudo_labelling,
    training,
    usb,
)
from benchmarks.ingest import write_pictures
from pipeline.data.predictions import read_predictions
from pipeline.labels.predict import finish_predictions
from pipeline.models.passes import Passes


def test_both_augment_with_the_same_operations() -> None:
    theirs = set(RandAugment(2, 10)._AUGMENTATION_SPACE)
    names = {"Color": "saturation", "AutoContrast": "autocontrast"}
    words = {names.get(name, name) for name in theirs}
    ours = {name.replace("_", "") for name in augmentation.OPERATIONS}
    assert {word.lower() for word in words} == ours


def test_augmentation_and_decoding_give_rows_at_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "IMAGES", {32: 16})
    augmented = augmentation.row_of(32, rounds=1)
    decoded = decoding.row_of(32, 64, threads=1, rounds=1)
    for row in (augmented, decoded):
        assert row.ours > 0
        assert row.ratio == pytest.approx(row.ours / (row.reference or 0))


@pytest.mark.slow
def test_evaluation_and_training_give_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for made in (
        evaluation.row_of("wrn_10_1", 32, rounds=1),
        training.row_of("wrn_10_1", "bfloat16", steps=1, rounds=1),
    ):
        assert made.ours > 0
    assert all(usb.ours(name, 1, "wrn_10_1") > 0 for name in usb.BARS)


def test_the_bare_loop_predicts_as_many_images_as_there_are(tmp_path: Path) -> None:
    pseudo_labelling.make_model(tmp_path / "model", "wrn_10_1")
    images = tmp_path / "images"
    write_pictures(images, 40, pseudo_labelling.SIDE, rows_per_shard=16)
    assert pseudo_labelling.bare_loop(tmp_path, Passes(images=16, channels_last=True)) > 0
    predictor = pseudo_labelling.predictor_of(tmp_path / "model", images, tmp_path / "out")
    torch.set_num_threads(1)
    for number in range(3):
        predictor(number)
    finish_predictions(images, tmp_path / "out", 10)
    found = np.concatenate([shard.log_probs for shard in read_predictions(tmp_path / "out")])
    assert found.shape == (40, 10)


def test_without_the_environment_of_usb_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["usb", "--python", str(tmp_path / "python")])
    with pytest.raises(SystemExit, match="no such file"):
        usb.main()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "no GPU" in capsys.readouterr().out
