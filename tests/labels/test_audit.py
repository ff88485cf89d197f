import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.labels.audit import (
    HISTOGRAM_BINS,
    Audit,
    ByClass,
    Right,
    Strangers,
    audit,
    audit_metrics,
    by_class,
    selection_table,
)
from pipeline.labels.levels import level_confidences, levels_of, no_counts
from pipeline.labels.select import cut_levels
from tests.labels.test_select import Image, image_lists, slow_select, targets, thresholds


def example(truth: list[int]) -> Audit:
    """Six images, the first four kept; class 2 is predicted once and not kept, class 3 never."""
    labels = np.array([0, 0, 1, 0, 2, 1], np.int32)
    kept = np.arange(6) < 4
    seen = ByClass(
        images=np.array([3, 2, 1, 0]),
        sure=np.array([3, 2, 0, 0]),
        kept=np.array([3, 1, 0, 0]),
        repeats=np.array([4, 4, 0, 0]),
        confidence=np.array([0.9 + 0.8 + 0.6, 0.7, 0.0, 0.0]),
        histogram=np.array([2, 4]),
        kept_histogram=np.array([0, 4]),
    )
    right = Right.none(4)
    for rows in (slice(0, 2), slice(2, 6)):  # of two shards
        right += Right.counted(labels[rows], np.array(truth, np.int32)[rows], kept[rows], 4)
    return audit(seen, right, np.array([0.5, 0.55, 0.6, 0.65], np.float32))


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
    assert (figures.histogram, figures.kept_histogram) == ([2, 4], [0, 4])


def test_dropped_strangers_are_left_out_of_the_classes_but_not_of_the_coverage() -> None:
    one = np.ones(2, np.int64)
    seen = ByClass(one, one, one, one, np.ones(2), one, one)
    counted = Strangers() + Strangers(5, 0) + Strangers(3, 3)
    assert Strangers() + Strangers() == Strangers(None, 0)
    figures = audit(seen, Right.none(2), np.zeros(2, np.float32), strangers=counted)
    assert (figures.strangers, figures.reasons["stranger"]) == (8, 3)
    assert figures.coverage == pytest.approx(2 / 5)
    assert audit_metrics(figures)["strangers"] == 8
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


def test_balanced_counts_have_imbalance_one_and_no_images_none() -> None:
    free, one, none = np.zeros(2, np.float32), np.ones(2, np.int64), np.zeros(2, np.int64)
    even = audit(ByClass(one, one, one, one, np.ones(2), one, one), Right.none(2), free)
    assert (even.class_imbalance, even.classes_missing, even.coverage) == (1.0, 0, 1.0)
    nothing = ByClass(none, none, none, none, np.zeros(2), none, none)
    empty = audit(nothing, Right.none(2), free)
    assert (empty.coverage, empty.kept, empty.pseudo_label_accuracy) == (0.0, 0, None)


@given(image_lists, thresholds, targets, st.integers(1, 5))
def test_a_selection_in_numbers_is_what_counting_image_by_image_gives(
    images: list[Image], threshold: float, target: int | None, max_repeats: int
) -> None:
    counts, levels = no_counts(4), []
    for label, confidence, _ in images:
        level = levels_of(np.log(np.array([confidence], np.float32)).astype(np.float16))
        levels.append(int(level[0]))
        counts[label, levels[-1]] += 1
    lowest = np.full(4, threshold, np.float32)
    seen = by_class(
        counts, cut_levels(counts, lowest, images_per_class=target, max_repeats=max_repeats)
    )
    repeats, reasons = slow_select(images, threshold, target, max_repeats)
    for k in range(4):
        rows = [row for row, image in enumerate(images) if image[0] == k]
        kept = [row for row in rows if repeats[row]]
        assert seen.images[k] == len(rows)
        assert seen.sure[k] == sum(reasons[row] != "below_threshold" for row in rows)
        assert seen.kept[k] == len(kept)
        assert seen.repeats[k] == sum(repeats[row] for row in rows)
        assert seen.confidence[k] == pytest.approx(sum(images[row][1] for row in kept))
    stored, times = level_confidences()[np.array(levels, int)], np.array(repeats, int)
    for bins, those in ((seen.histogram, stored), (seen.kept_histogram, stored[times > 0])):
        assert bins.tolist() == np.histogram(those, HISTOGRAM_BINS, (0, 1))[0].tolist()
