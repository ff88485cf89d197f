"""The figures of single runs, drawn from the JSON that stages write."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from pipeline.evaluate.result import evaluate, evaluation_to_json
from pipeline.files import write_json
from pipeline.report.drawn import draw
from tests.report.example import DIGITS, predictions


def texts(path: Path) -> str:
    return " ".join(ElementTree.parse(path).getroot().itertext())


@pytest.mark.parametrize("classes", [DIGITS, tuple(f"class {n}" for n in range(60))])
def test_an_evaluation_has_three_figures(tmp_path: Path, classes: tuple[str, ...]) -> None:
    test = evaluation_to_json(evaluate(*predictions(len(classes), 6.0)))
    write_json(tmp_path / "result.json", {"test": test, "centre": test})
    about = {"generation": "2.1", "classes": classes}
    draw("evaluation", tmp_path / "result.json", about, tmp_path / "out")
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found == ["confusion.svg", "per_class.svg", "reliability.svg"]
    assert "generation 2.1" in texts(tmp_path / "out" / "reliability.svg")
    for path in (tmp_path / "out").iterdir():
        assert "currentColor" not in path.read_text()  # black on black where MLflow is dark
        assert 'fill="#ffffff"' in path.read_text()


def test_a_selection_shows_balance_and_confidence(tmp_path: Path) -> None:
    counts = np.arange(20) ** 2
    write_json(
        tmp_path / "audit.json",
        {
            "images": [5, 0, 3],
            "repeats": [5, 0, 6],
            "histogram": counts.tolist(),
            "kept_histogram": np.where(np.arange(20) > 15, counts, 0).tolist(),
        },
    )
    about = {"generation": "1", "classes": ["cat", "<dog>", "猫"]}
    draw("selection", tmp_path / "audit.json", about, tmp_path / "out")
    balance = texts(tmp_path / "out" / "class_balance.svg")
    assert all(name in balance for name in ("cat", "<dog>", "猫", "images kept"))
    assert "confidence, %" in texts(tmp_path / "out" / "confidence.svg")
