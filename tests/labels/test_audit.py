import json
from dataclasses import asdict

import numpy as np
import pytest

from pipeline.labels.audit import Audit, audit, audit_metrics
from pipeline.labels.select import Reason, Selection


def example(truth: list[int]) -> Audit:
    """Six images, the first four kept; class 2 is predicted once and not kept, class 3 never."""
    return audit(
        np.array([0, 0, 1, 0, 2, 1], np.int32),
        np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], np.float32),
        Selection(
            np.array([2, 1, 4, 1, 0, 0], np.int32),
            np.array(
                [Reason.KEPT] * 4 + [Reason.BELOW_THRESHOLD, Reason.OVER_CLASS_TARGET], np.uint8
            ),
        ),
        np.array(truth, np.int32),
        num_classes=4,
        thresholds=np.array([0.5, 0.55, 0.6, 0.65], np.float32),
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
    assert figures.reasons == {"kept": 4, "below_threshold": 1, "over_class_target": 1}
    assert figures.images == [3, 1, 0, 0]
    assert figures.thresholds == [0.5, 0.55, 0.6, 0.65]
    assert figures.repeats == [4, 4, 0, 0]
    assert figures.confidence == [pytest.approx(2.3 / 3), pytest.approx(0.7), None, None]
    assert figures.accuracy == [pytest.approx(2 / 3), 1.0, None, None]


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


def test_balanced_counts_have_imbalance_one_and_no_images_none() -> None:
    labels = np.array([0, 1], np.int32)
    even = audit(
        labels,
        np.ones(2, np.float32),
        Selection(np.ones(2, np.int32), np.zeros(2, np.uint8)),
        labels,
        num_classes=2,
        thresholds=np.zeros(2, np.float32),
    )
    assert (even.class_imbalance, even.classes_missing, even.coverage) == (1.0, 0, 1.0)
    empty = audit(
        labels[:0],
        np.ones(0, np.float32),
        Selection(np.ones(0, np.int32), np.zeros(0, np.uint8)),
        labels[:0],
        num_classes=2,
        thresholds=np.zeros(2, np.float32),
    )
    assert (empty.coverage, empty.kept, empty.pseudo_label_accuracy) == (0.0, 0, None)
