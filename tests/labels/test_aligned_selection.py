"""Predictions moved to the classes' shares before any are selected."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.predictions import read_predictions
from pipeline.errors import DataError
from pipeline.labels.align import estimate_shares
from pipeline.tasks.classification import TASK
from tests.labels.folders import write_labeled, write_predictions
from tests.labels.test_pseudo_label import PROBABILITIES, rows_of, run


def biased_teacher(count: int = 120) -> NDArray[np.float32]:
    """Three equal classes of which the teacher sees class 0 most often and surest."""
    generator = np.random.default_rng(0)
    probabilities = np.empty((count, 3), np.float32)
    for place in range(count):
        label = 0 if generator.random() < 0.5 else place % 3
        sure = {0: 0.95, 1: 0.7, 2: 0.6}[label] + generator.uniform(-0.04, 0.04)
        probabilities[place] = (1 - sure) / 2
        probabilities[place, label] = sure
    return probabilities


def slow_aligned(probabilities: Any, target: list[float]) -> NDArray[np.float64]:
    """Each probability times target / mean, each row again of sum 1, over and over."""
    moved = np.exp(np.log(probabilities).astype(np.float16).astype(np.float64))
    for _ in range(1000):
        moved = moved * (np.array(target) / moved.mean(axis=0))
        moved = moved / moved.sum(axis=1, keepdims=True)
    return np.asarray(moved)


@pytest.mark.parametrize("rows_per_shard", [4, 100])
def test_alignment_comes_before_the_choice_and_into_the_targets(
    tmp_path: Path, rows_per_shard: int
) -> None:
    probabilities = biased_teacher(50)
    write_predictions(tmp_path / "predictions", probabilities, rows_per_shard=rows_per_shard)
    labels = [0, 0, 1, 1, 1, 2, 2, 2, 2, 2]
    labeled = write_labeled(tmp_path / "labeled", [str(n) for n in range(10)], labels)
    options: dict[str, Any] = {"fraction_per_class": None, "confidence_threshold": 0.72}
    aligning = options | {"distribution_alignment": "labeled", "labeled": labeled}
    run(tmp_path / "predictions", tmp_path / "out", **aligning)
    expected = slow_aligned(probabilities, [0.2, 0.3, 0.5])
    rows = rows_of(tmp_path / "out")
    assert [row["label"] for row in rows] == expected.argmax(axis=1).tolist()
    np.testing.assert_allclose([r["confidence"] for r in rows], expected.max(axis=1), atol=5e-3)
    np.testing.assert_allclose([r["probabilities"] for r in rows], expected, atol=5e-3)
    kept = [row["repeats"] for row in rows]
    assert kept == (expected.max(axis=1) >= 0.72).astype(int).tolist()
    run(tmp_path / "predictions", tmp_path / "plain", **options)
    assert kept != [row["repeats"] for row in rows_of(tmp_path / "plain")]


@pytest.mark.parametrize("kind", ["labeled", "estimated"])
def test_a_class_without_a_labelled_image_is_refused(tmp_path: Path, kind: str) -> None:
    write_predictions(tmp_path / "predictions", PROBABILITIES)
    labeled = write_labeled(tmp_path / "labeled", ["a", "b"], [0, 1])
    with pytest.raises(DataError, match=f"class number 2.* = {kind} can't"):
        run(
            tmp_path / "predictions",
            tmp_path / "out",
            labeled=labeled,
            distribution_alignment=kind,
        )


def skewed_teacher(count: int = 600) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """What one of three equal classes says of images that are mostly of class 0, and the truth."""
    generator = np.random.default_rng(0)
    truth = generator.choice(3, count, p=[0.8, 0.15, 0.05])
    logits = 2 * generator.normal(size=(count, 3)) + 4 * np.eye(3)[truth]
    odds = np.exp(logits)
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32), truth


def test_shares_are_estimated_from_what_alignment_reads_and_reported(tmp_path: Path) -> None:
    probabilities, truth = skewed_teacher()
    write_predictions(tmp_path / "predictions", probabilities, rows_per_shard=100)
    labeled = tmp_path / "labeled"
    write_labeled(labeled, [str(n) for n in range(30)], [n % 3 for n in range(30)], rows=7)
    right: dict[str, float] = {}
    shares: dict[str, Any] = {}
    for kind in ("none", "uniform", "labeled", "estimated"):
        figures = run(
            tmp_path / "predictions",
            tmp_path / f"by_{kind}",
            labeled=labeled,
            distribution_alignment=kind,
            fraction_per_class=None,
            truth={f"image_{n}": int(label) for n, label in enumerate(truth)},
        )
        right[kind], shares[kind] = figures.prediction_accuracy or 0, figures.class_shares
    assert shares["none"] is None
    assert shares["labeled"] == shares["uniform"] == pytest.approx([1 / 3] * 3, abs=1e-6)
    stored = [shard.values for shard in read_predictions(tmp_path / "predictions", TASK)]
    expected = estimate_shares(np.concatenate(stored), np.full(3, 10))
    assert shares["estimated"] == pytest.approx(expected.tolist(), abs=1e-5)
    assert right["estimated"] > right["none"] > right["labeled"]
