"""The figures of single runs, drawn from what their stages have measured."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from pipeline.evaluate.result import evaluate
from pipeline.report.stage_figures import (
    balance_figure,
    confidence_figure,
    write_evaluation_figures,
)
from pipeline.report.svg import write_svgs
from tests.report.example import DIGITS, predictions


def texts(path: Path) -> str:
    return " ".join(ElementTree.parse(path).getroot().itertext())


@pytest.mark.parametrize("classes", [DIGITS, tuple(f"class {n}" for n in range(60))])
def test_an_evaluation_has_three_figures(tmp_path: Path, classes: tuple[str, ...]) -> None:
    test = evaluate(*predictions(len(classes), 6.0))
    write_evaluation_figures(tmp_path, test, test, generation="2.1", classes=classes)
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["confusion.svg", "per_class.svg", "reliability.svg"]
    assert "generation 2.1" in texts(tmp_path / "reliability.svg")
    for path in tmp_path.iterdir():
        assert "currentColor" not in path.read_text()  # black on black where MLflow is dark
        assert 'fill="#ffffff"' in path.read_text()


def test_a_selection_shows_balance_and_confidence(tmp_path: Path) -> None:
    counts = np.arange(20) ** 2
    kept = np.where(np.arange(20) > 15, counts, 0).tolist()
    figures = {
        "class_balance": balance_figure([5, 0, 3], [5, 0, 6], ["cat", "<dog>", "猫"]),
        "confidence": confidence_figure(counts.tolist(), kept),
    }
    write_svgs(tmp_path, figures)
    balance = texts(tmp_path / "class_balance.svg")
    assert all(name in balance for name in ("cat", "<dog>", "猫", "images kept"))
    assert "confidence, %" in texts(tmp_path / "confidence.svg")
