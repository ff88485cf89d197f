"""The transfer benchmark keeps its protocol, and its modes go through the pipeline's functions."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from benchmarks import transfer
from benchmarks.transfer import HEAD, MODES, NEAREST, Labeled, carried, on_features, table
from tests.tiny import save_model


def patches(count: int) -> Labeled:
    """Ten classes of 28-pixel images, each with a bright square of a side of its own."""
    labels = torch.arange(count) % 10
    images = torch.zeros(count, 1, 28, 28, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, : 2 * label + 4, : 2 * label + 4] = 200
    return Labeled(images, labels, images[:50], labels[:50])


def test_every_mode_and_what_reads_features_learn_the_patches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "STEPS", 30)
    spec = transfer.spec_of([0.1], [0.3], "source")
    save_model(tmp_path / "source", seed=5, **vars(spec))
    for name, section in MODES.items():
        assert carried(tmp_path / "source", patches(200), 0, section) > 0.3, name
    found = on_features(tmp_path / "source", patches(200), 0)
    assert found == {HEAD: 1.0, NEAREST: 1.0}


def test_the_table_compares_seed_by_seed() -> None:
    rows = [{"from scratch": 0.5 + 0.1 * s, "full": 0.6 + 0.1 * s} for s in range(3)]
    lines = table({"a to b": rows}).splitlines()
    assert "| full | 70.0 ± 24.8 | +10.0 ± 0.0 |" in lines


def test_without_the_data_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = tmp_path / "none.parquet"
    monkeypatch.setattr(sys, "argv", ["transfer", "--data", str(missing)])
    transfer.main()
    shown = capsys.readouterr()
    assert f"{missing}: not there" in shown.out + shown.err
