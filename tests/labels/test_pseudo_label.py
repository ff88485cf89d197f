from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.predictions import read_pseudo_labels
from pipeline.data.shards import iter_shards, read_manifest, write_manifest
from pipeline.errors import DataError, SelectionError
from pipeline.labels.audit import Audit
from pipeline.labels.pseudo_label import select_pseudo_labels
from pipeline.params import SelectParams
from tests.labels.folders import write_predictions

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
        predictions, out, params, classes=classes, labeled=labeled, truth=truth or {}
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
    labels = read_pseudo_labels(tmp_path / "out")
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
    labels = read_pseudo_labels(tmp_path / "out")
    np.testing.assert_allclose(labels.targets, expected, atol=3e-3)
    assert rows_of(tmp_path / "out")[0]["confidence"] == pytest.approx(0.9, abs=2e-3)


def test_hard_targets_are_one_hot(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions", PROBABILITIES)
    run(tmp_path / "predictions", tmp_path / "out", images_per_class=2, label_kind="hard")
    labels = read_pseudo_labels(tmp_path / "out")
    assert labels.targets.tolist() == np.eye(3)[[0, 0, 1, 1, 2, 2]].tolist()
    assert read_manifest(tmp_path / "out").metadata["label_kind"] == "hard"


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


def test_a_biased_teacher_is_balanced_by_default_and_not_without(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions", biased_teacher(), rows_per_shard=50)
    run(tmp_path / "predictions", tmp_path / "balanced")
    seen = Counter(read_pseudo_labels(tmp_path / "balanced").targets.argmax(axis=1).tolist())
    assert seen == {0: 40, 1: 40, 2: 40}
    run(
        tmp_path / "predictions",
        tmp_path / "unbalanced",
        fraction_per_class=None,
        confidence_threshold=0.65,
    )
    alone = Counter(read_pseudo_labels(tmp_path / "unbalanced").targets.argmax(axis=1).tolist())
    assert alone[0] > 3 * max(1, alone[1])
    assert alone[2] == 0


def test_the_choice_does_not_depend_on_the_shards(tmp_path: Path) -> None:
    probabilities = biased_teacher(60).round(1)  # many equal confidences
    ids = [f"picture {place}" for place in range(60)]
    order = np.random.default_rng(1).permutation(60)
    write_predictions(tmp_path / "a", probabilities, rows_per_shard=60, ids=ids)
    write_predictions(
        tmp_path / "b", probabilities[order], rows_per_shard=7, ids=[ids[place] for place in order]
    )
    kept = []
    for name in ("a", "b"):
        run(tmp_path / name, tmp_path / f"out_{name}", images_per_class=5)
        kept.append({row["id"]: row["repeats"] for row in rows_of(tmp_path / f"out_{name}")})
    assert kept[0] == kept[1]


def test_the_same_predictions_give_the_same_bytes(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions", PROBABILITIES)
    for name in ("a", "b"):
        run(tmp_path / "predictions", tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


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
    assert read_pseudo_labels(tmp_path / "out").targets.tolist() == [[1, 0], [0, 1]]


def test_a_selection_of_nothing_is_refused(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions", PROBABILITIES)
    with pytest.raises(SelectionError, match=r"select\.confidence_threshold = 0\.95") as caught:
        run(tmp_path / "predictions", tmp_path / "out", confidence_threshold=0.95)
    assert "0.900" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_no_unlabelled_images_select_none(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions", np.empty((0, 3)))
    assert run(tmp_path / "predictions", tmp_path / "out").kept == 0
    assert read_pseudo_labels(tmp_path / "out").targets.shape == (0, 3)


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


def test_relative_thresholds_let_a_class_in_of_which_little_is_sure(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions", biased_teacher())
    options: dict[str, Any] = {"confidence_threshold": 0.7, "fraction_per_class": None}
    fixed = run(tmp_path / "predictions", tmp_path / "fixed", **options)
    relative = run(
        tmp_path / "predictions", tmp_path / "relative", threshold_kind="relative", **options
    )
    assert fixed.images[2] == 0
    assert relative.images[2] > 10
    assert relative.images[0] == fixed.images[0]
    assert relative.thresholds[0] == pytest.approx(0.7)
    assert relative.thresholds[2] == 0.0


def test_predictions_of_another_number_of_classes_are_refused(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions", PROBABILITIES)
    with pytest.raises(DataError, match="of 3 classes, but there are 2"):
        run(tmp_path / "predictions", tmp_path / "out", classes=("cat", "dog"))
