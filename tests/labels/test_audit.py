import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.labels.audit import (
    HISTOGRAM_BINS,
    Audit,
    audit,
    audit_metrics,
    selection_table,
)
from pipeline.labels.select import Candidates, Reason, find_cuts, select
from pipeline.tasks.classification import TASK
from pipeline.tasks.task import Choice
from tests.labels.test_select import (
    CLASSES,
    Image,
    candidates_of,
    image_lists,
    params_of,
    slow_select,
    targets,
)


def example(truth: list[int], strangers: int = 0) -> Audit:
    """Six images, the first four kept; class 2 is predicted once and not kept, class 3 never.

    The last ones are strangers, and dropped.
    """
    dropped = np.arange(6) >= 6 - strangers
    reasons = np.array([Reason.KEPT] * 4 + [Reason.BELOW_THRESHOLD, Reason.OVER_CLASS_TARGET])
    candidates = Candidates(
        np.array([0, 0, 1, 0, 2, 1], np.int32),
        np.array([0.9, 0.8, 0.7, 0.6, 0.1, 0.5], np.float32),
        np.arange(6, dtype=np.uint64),
        dropped,
    )
    selection = Choice(
        np.array([2, 1, 4, 1, 0, 0], np.int32),
        np.where(dropped, Reason.STRANGER, reasons).astype(np.uint8),
    )
    return audit(
        candidates,
        selection,
        np.array(truth, np.int32),
        np.array([0.5, 0.55, 0.6, 0.65], np.float32),
        strangers=strangers or None,
    )


def test_the_figures_are_those_counted_by_hand() -> None:
    figures = example([0, 1, 1, 0, 2, 0])
    assert figures.coverage == pytest.approx(4 / 6)
    assert figures.class_imbalance == 3.0  # 3 images of class 0, none of two others
    assert figures.classes_missing == 2
    assert figures.mean_confidence == pytest.approx(0.75)
    assert figures.pseudo_label_accuracy == pytest.approx(3 / 4)
    assert figures.prediction_accuracy == pytest.approx(4 / 6)
    assert (figures.kept, figures.repeated) == (4, 8)
    assert figures.reasons == {
        "kept": 4,
        "below_threshold": 1,
        "over_class_target": 1,
        "stranger": 0,
    }
    assert figures.images == [3, 1, 0, 0]
    assert figures.thresholds == [0.5, 0.55, 0.6, 0.65]
    assert figures.repeats == [4, 4, 0, 0]
    assert figures.confidence == [pytest.approx(2.3 / 3), pytest.approx(0.7), None, None]
    assert figures.accuracy == [pytest.approx(2 / 3), 1.0, None, None]
    assert (sum(figures.histogram), sum(figures.kept_histogram)) == (6, 4)


def test_dropped_strangers_are_left_out_of_the_classes_but_not_of_the_coverage() -> None:
    figures = example([-1] * 6, strangers=2)
    assert (figures.strangers, figures.reasons["stranger"]) == (2, 2)
    assert (figures.kept, sum(figures.histogram)) == (4, 4)
    assert figures.coverage == pytest.approx(4 / 6)
    assert audit_metrics(figures)["strangers"] == 2
    assert "strangers" not in audit_metrics(example([0, 1, 1, 0, 2, 0]))


def test_the_table_has_a_row_of_each_class() -> None:
    table = selection_table(example([0, 1, 1, 0, 2, 0]), ["a", "b", "c", "d"])
    assert len(table["columns"]) == 6
    assert table["data"][0][:4] == ["a", 0.5, 3, 4]
    assert table["data"][3] == ["d", 0.65, 0, 0, None, None]


def test_unknown_truth_is_left_out() -> None:
    some = example([0, -1, 0, -1, -1, 1])
    assert some.pseudo_label_accuracy == pytest.approx(1 / 2)
    assert some.prediction_accuracy == pytest.approx(2 / 3)
    assert some.accuracy == [1.0, 0.0, None, None]
    none = example([-1] * 6)
    assert none.pseudo_label_accuracy is None
    assert none.prediction_accuracy is None
    assert none.accuracy == [None] * 4


def test_metrics_hold_what_is_known_only() -> None:
    known = audit_metrics(example([0, 1, 1, 0, 2, 0]))
    assert known["pseudo_label_accuracy"] == pytest.approx(3 / 4)
    assert known["coverage"] == pytest.approx(4 / 6)
    assert known["class_imbalance"] == 3.0
    unknown = audit_metrics(example([-1] * 6))
    assert known.keys() - unknown.keys() == {"pseudo_label_accuracy", "prediction_accuracy"}
    json.dumps(asdict(example([-1] * 6)), allow_nan=False)


@given(image_lists, st.sampled_from([0.0, 0.4, 0.8]), targets, st.integers(1, 5))
def test_a_selection_in_numbers_is_what_counting_image_by_image_gives(
    images: list[Image], threshold: float, target: int | None, max_repeats: int
) -> None:
    params = params_of(
        confidence_threshold=threshold, images_per_class=target, max_repeats=max_repeats
    )
    candidates = candidates_of(images)
    cuts = find_cuts(candidates, CLASSES, params, TASK)
    unknown = np.full(len(images), -1, np.int32)
    figures = audit(candidates, select(candidates, cuts), unknown, cuts.thresholds)
    repeats, reasons = slow_select(images, threshold, target, max_repeats)
    kept = [image for image, times in zip(images, repeats, strict=True) if times]
    for k in range(4):
        confidences = [confidence for label, confidence, _ in kept if label == k]
        times = [r for r, (label, _, _) in zip(repeats, images, strict=True) if label == k]
        assert (figures.images[k], figures.repeats[k]) == (len(confidences), sum(times))
        expected = pytest.approx(sum(confidences) / len(confidences)) if confidences else None
        assert figures.confidence[k] == expected
    assert figures.coverage == (len(kept) / len(images) if images else 0.0)
    counts = [figures.images[k] for k in range(4)]
    assert figures.class_imbalance == max(counts) / max(1, min(counts))
    assert figures.reasons == {reason.text: reasons.count(reason.text) for reason in Reason}
    for bins, some in ((figures.histogram, images), (figures.kept_histogram, kept)):
        values = np.array([confidence for _, confidence, _ in some])
        assert bins == np.histogram(values, HISTOGRAM_BINS, (0, 1))[0].tolist()
