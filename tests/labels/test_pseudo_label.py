from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.predictions import read_pseudo_labels
from pipeline.data.shards import iter_shards, read_manifest, write_manifest
from pipeline.errors import DataError, SelectionError
from pipeline.labels.audit import Audit
from pipeline.labels.pseudo_label import select_pseudo_labels
from pipeline.labels.shard_selector import Truth
from pipeline.params import SelectParams
from tests.labels.folders import write_predictions
from tests.tiny import TASK

PROBABILITIES = [
    [0.90, 0.05, 0.05],
    [0.80, 0.10, 0.10],
    [0.60, 0.30, 0.10],
    [0.10, 0.85, 0.05],
    [0.05, 0.15, 0.80],
    [0.40, 0.35, 0.25],
]


def run(
    predictions: Path,
    out: Path,
    *,
    truth: Mapping[str, int] | None = None,
    classes: Sequence[str] = ("cat", "dog", "owl"),
    labeled: Path = Path("nowhere"),
    **changes: Any,
) -> Audit:
    """Select with the defaults of params.yaml's section."""
    params = SelectParams(**changes)
    return select_pseudo_labels(
        predictions,
        out,
        params,
        task=TASK,
        classes=classes,
        labeled=labeled,
        truth=Truth.of(truth or {}, 8),
    )


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for table in iter_shards(folder) for row in table.to_pylist()]


def test_every_image_is_written_with_its_reason(tmp_path: Path) -> None:
    ids = write_predictions(tmp_path / "predictions", PROBABILITIES)
    figures = run(
        tmp_path / "predictions",
        tmp_path / "out",
        confidence_threshold=0.5,
        images_per_class=2,
        truth={ids[0]: 0, ids[1]: 1, ids[5]: 0},
    )
    rows = rows_of(tmp_path / "out")
    assert [row["id"] for row in rows] == ids
    assert [(row["shard"], row["row"]) for row in rows] == [
        (0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)
    ]  # fmt: skip
    assert [row["label"] for row in rows] == [0, 0, 0, 1, 2, 0]
    assert [row["repeats"] for row in rows] == [1, 1, 0, 2, 2, 0]
    assert [row["reason"] for row in rows] == [
        "kept",
        "kept",
        "over_class_target",
        "kept",
        "kept",
        "below_threshold",
    ]
    np.testing.assert_allclose(
        [row["confidence"] for row in rows], [0.9, 0.8, 0.6, 0.85, 0.8, 0.4], atol=2e-3
    )
    assert (figures.kept, figures.repeated) == (4, 6)
    assert figures.images == [2, 1, 1]
    assert figures.repeats == [2, 2, 2]
    assert figures.pseudo_label_accuracy == pytest.approx(1 / 2)
    assert figures.prediction_accuracy == pytest.approx(2 / 3)


def test_soft_targets_are_what_the_teacher_thought(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions", PROBABILITIES)
    run(tmp_path / "predictions", tmp_path / "out", images_per_class=2)
    labels = read_pseudo_labels(tmp_path / "out", TASK)
    places = [0, 1, 3, 3, 4, 4]
    assert labels.shard.tolist() == [place // 4 for place in places]
    assert labels.row.tolist() == [place % 4 for place in places]
    np.testing.assert_allclose(labels.targets, np.array(PROBABILITIES)[places], atol=2e-3)
    np.testing.assert_allclose(labels.targets.sum(axis=1), 1, rtol=1e-6)
    assert labels.targets.dtype == np.float32


def test_a_temperature_sharpens_soft_targets_but_moves_no_choice(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions", PROBABILITIES)
    run(tmp_path / "predictions", tmp_path / "out", images_per_class=2, temperature=0.5)
    squares = np.array(PROBABILITIES)[[0, 1, 3, 3, 4, 4]] ** 2
    expected = squares / squares.sum(axis=1, keepdims=True)
    labels = read_pseudo_labels(tmp_path / "out", TASK)
    np.testing.assert_allclose(labels.targets, expected, atol=3e-3)
    assert rows_of(tmp_path / "out")[0]["confidence"] == pytest.approx(0.9, abs=2e-3)


def test_hard_targets_are_one_hot(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions", PROBABILITIES)
    run(tmp_path / "predictions", tmp_path / "out", images_per_class=2, label_kind="hard")
    labels = read_pseudo_labels(tmp_path / "out", TASK)
    assert labels.targets.tolist() == np.eye(3)[[0, 0, 1, 1, 2, 2]].tolist()
    assert read_manifest(tmp_path / "out").metadata["label_kind"] == "hard"


@pytest.mark.parametrize("kind", ["none", "uniform"])
@pytest.mark.parametrize("wrong", [[np.nan] * 3, [0.0] * 3, [0.1, np.nan, 0.1]])
def test_predictions_that_are_no_numbers_are_refused(
    tmp_path: Path, kind: str, wrong: list[float]
) -> None:
    values = np.array(PROBABILITIES)
    values[4] = wrong  # log 0 of every class is no distribution either
    write_predictions(tmp_path / "predictions", values)
    with pytest.raises(DataError, match=r"1 predictions .*'image_4'") as caught:
        run(tmp_path / "predictions", tmp_path / "out", distribution_alignment=kind)
    assert "\n" not in str(caught.value)


def test_a_class_of_probability_zero_is_no_fault(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions", [[1.0, 0.0], [0.0, 1.0]])
    run(tmp_path / "predictions", tmp_path / "out", temperature=0.5, classes=("cat", "dog"))
    assert read_pseudo_labels(tmp_path / "out", TASK).targets.tolist() == [[1, 0], [0, 1]]


def test_a_selection_of_nothing_is_refused(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions", PROBABILITIES)
    with pytest.raises(SelectionError, match=r"select\.confidence_threshold = 0\.95") as caught:
        run(tmp_path / "predictions", tmp_path / "out", confidence_threshold=0.95)
    assert "0.900" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_no_unlabelled_images_select_none(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions", np.empty((0, 3)))
    assert run(tmp_path / "predictions", tmp_path / "out").kept == 0
    assert read_pseudo_labels(tmp_path / "out", TASK).targets.shape == (0, 3)


def test_unfinished_or_foreign_predictions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        run(tmp_path / "nowhere", tmp_path / "out")
    write_predictions(tmp_path / "predictions", PROBABILITIES)
    write_manifest(tmp_path / "predictions", read_manifest(tmp_path / "predictions").shards)
    with pytest.raises(DataError, match="num_classes"):
        run(tmp_path / "predictions", tmp_path / "out")


def test_thresholds_by_class_decide_and_are_told(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions", PROBABILITIES)
    named = {"cat": 0.7, "owl": 0.9}
    figures = run(
        tmp_path / "predictions",
        tmp_path / "out",
        confidence_threshold=0.8,
        class_thresholds=named,
        fraction_per_class=None,
    )
    assert [row["repeats"] for row in rows_of(tmp_path / "out")] == [1, 1, 0, 1, 0, 0]
    assert figures.thresholds == pytest.approx([0.7, 0.8, 0.9])
    with pytest.raises(SelectionError, match=r"class_thresholds = \{'cat': 1\.0\}"):
        run(
            tmp_path / "predictions",
            tmp_path / "none",
            confidence_threshold=0.99,
            class_thresholds={"cat": 1.0},
        )


def test_predictions_of_another_number_of_classes_are_refused(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions", PROBABILITIES)
    with pytest.raises(DataError, match="of 3 classes, but there are 2"):
        run(tmp_path / "predictions", tmp_path / "out", classes=("cat", "dog"))
