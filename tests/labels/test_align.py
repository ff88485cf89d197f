from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.labels.align import (
    TOLERANCE,
    aligned,
    alignment_shift,
    estimate_shares,
    pool_shares,
    row_stride,
    shares_by_em,
)


def predictions(count: int, classes: int, seed: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    skew = generator.uniform(0.3, 3.0, classes)
    return np.log(generator.dirichlet(skew, size=count) + 1e-9).astype(np.float32)


def slow(log_probs: NDArray[np.float32], target: list[float]) -> NDArray[np.float64]:
    """Sinkhorn and Knopp's scaling of columns and rows, number by number, far past convergence."""
    rows = [[float(np.exp(value)) for value in row] for row in log_probs]
    for _ in range(2000):
        means = [sum(row[k] for row in rows) / len(rows) for k in range(len(target))]
        rows = [[p * target[k] / means[k] for k, p in enumerate(row)] for row in rows]
        rows = [[value / sum(row) for value in row] for row in rows]
    return np.array(rows)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_a_slow_loop_over_the_images_gives(seed: int) -> None:
    classes = 2 + seed
    log_probs = predictions(30, classes, seed)
    target = np.random.default_rng(seed).dirichlet(np.full(classes, 5.0))
    result = aligned(log_probs, alignment_shift(log_probs, target))
    np.testing.assert_allclose(np.exp(result), slow(log_probs, target.tolist()), atol=0.01)
    assert result.dtype == np.float32


@given(st.integers(2, 6), st.integers(0, 1000))
def test_afterwards_the_mean_is_the_target(classes: int, seed: int) -> None:
    log_probs = predictions(60, classes, seed)
    target = np.full(classes, 1 / classes)
    mean = np.exp(aligned(log_probs, alignment_shift(log_probs, target))).mean(axis=0)
    np.testing.assert_allclose(mean, target, rtol=2 * TOLERANCE)


def test_a_mean_within_the_tolerance_of_the_target_stays() -> None:
    log_probs = np.log(np.array([[0.501, 0.499]], np.float32))
    assert alignment_shift(log_probs, np.full(2, 0.5)).tolist() == [0.0, 0.0]


def test_sure_predictions_are_aligned_too() -> None:
    """One round moves the mean of sure predictions little; it takes all of them."""
    sure = np.full((90, 2), 0.02, np.float32)
    sure[:70, 0] = 0.98
    sure[70:, 1] = 0.98
    sure[60:70] = 0.7, 0.3
    log_probs = np.log(sure / sure.sum(axis=1, keepdims=True))
    result = aligned(log_probs, alignment_shift(log_probs, np.full(2, 0.5)))
    assert (result[60:70].argmax(axis=1) == 1).all()
    assert (result[:60].argmax(axis=1) == 0).all()


def test_so_many_rows_are_enough() -> None:
    assert row_stride(50, 4) == 1
    assert row_stride(50, 4, 4 * 50) == 1
    assert row_stride(50, 4, 4 * 49) == 2
    assert row_stride(50, 4, 4 * 20) == 3
    assert row_stride(0, 4) == 1


def test_nothing_to_align_is_no_shift() -> None:
    shift = alignment_shift(np.empty((0, 3), np.float32), np.full(3, 1 / 3))
    assert shift.tolist() == [0.0] * 3


def test_predictions_that_follow_the_target_stay() -> None:
    log_probs = predictions(30, 3, 1)
    mean = np.exp(log_probs.astype(np.float64)).mean(axis=0)
    np.testing.assert_allclose(
        np.exp(aligned(log_probs, alignment_shift(log_probs, mean))), np.exp(log_probs), atol=1e-6
    )


def test_a_class_that_is_never_given_any_probability_is_left_alone() -> None:
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.array([[0.9, 0.1, 0.0], [0.3, 0.7, 0.0]], np.float32))
    shift = alignment_shift(log_probs, np.full(3, 1 / 3))
    result = np.exp(aligned(log_probs, shift))
    assert np.isfinite(result).all()
    assert result[:, 2].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(result.sum(axis=1), 1, rtol=1e-6)
    assert shift[2] == pytest.approx(0.0)


Floats = NDArray[np.float32]
EVEN = np.full(4, 0.25)
LONG_TAIL = np.array([0.6, 0.28, 0.09, 0.03])


def sampled(
    shares: NDArray[np.float64], count: int, *, spread: float = 1.0, seed: int = 0
) -> Floats:
    """What Bayes' rule under equal shares says of points around four corners, drawn by `shares`."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(4, count, p=shares)
    corners = np.array([[0, 0], [3, 0], [0, 3], [3, 3]])
    points = corners[labels] + spread * draw.normal(size=(count, 2))
    logits = -((points[:, None] - corners) ** 2).sum(axis=2) / (2 * spread**2)
    log_probs: Floats = (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype("f4")
    return log_probs


def slow_em(log_probs: Floats, labels: list[float], weight: float, rounds: int) -> list[float]:
    """Saerens et al. 2002, eq. 2.9, image by image, with Dirichlet counts of weight × M images."""
    shares, count = list(labels), len(log_probs)
    for _ in range(rounds):
        sums = [weight * count * share for share in labels]
        for row in np.exp(log_probs.astype(np.float64)).tolist():
            odds = [p * new / old for p, new, old in zip(row, shares, labels, strict=True)]
            for place, value in enumerate(odds):
                sums[place] += value / sum(odds)
        shares = [value / sum(sums) for value in sums]
    return shares


@pytest.mark.parametrize("weight", [0.05, 0.5])
def test_em_is_that_of_a_loop_over_images(weight: float) -> None:
    log_probs = sampled(LONG_TAIL, 40)
    labels = np.array([0.4, 0.3, 0.2, 0.1])
    expected = slow_em(log_probs, labels.tolist(), weight, 400)
    found = shares_by_em(log_probs, labels, prior_weight=weight)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("spread", [1.0, 1.5])
def test_calibrated_predictions_give_the_shares_away(spread: float) -> None:
    log_probs = sampled(LONG_TAIL, 20_000, spread=spread)
    assert np.abs(shares_by_em(log_probs, EVEN, prior_weight=0) - LONG_TAIL).sum() < 0.06
    found = estimate_shares(log_probs, np.full(4, 50))
    assert np.abs(found - LONG_TAIL).sum() < 0.12
    assert np.abs(np.exp(log_probs).mean(axis=0) - LONG_TAIL).sum() > 0.02


def test_a_class_that_no_image_is_of_keeps_a_share() -> None:
    log_probs = sampled(np.array([1.0, 0, 0, 0]), 500, spread=0.3)
    found = estimate_shares(log_probs, np.full(4, 25))
    assert found.argmax() == 0
    assert (found[1:] > 0.01).all()
    assert found.sum() == pytest.approx(1)


@pytest.mark.parametrize("counts", [[10, 10, 10, 10], [40, 30, 20, 10]])
def test_where_the_images_have_the_labels_shares_these_are_the_answer(counts: list[int]) -> None:
    labels = np.array(counts) / sum(counts)
    even = sampled(labels, 4000)
    shifted = even + np.log(labels / EVEN)  # of a model that knows its labels' shares
    log_probs = shifted - np.logaddexp.reduce(shifted, axis=1, keepdims=True)
    assert estimate_shares(log_probs.astype("f4"), np.array(counts)).tolist() == labels.tolist()


def test_a_difference_counts_where_labels_or_sureness_tell_it_from_errors() -> None:
    shares = np.array([0.35, 0.25, 0.2, 0.2])
    doubtful, sure = (sampled(shares, 5000, spread=spread) for spread in (1.5, 0.6))
    assert estimate_shares(doubtful, np.full(4, 5)).tolist() == EVEN.tolist()
    assert estimate_shares(doubtful, np.full(4, 100))[0] > 0.3
    assert estimate_shares(sure, np.full(4, 5))[0] > 0.3


def test_overconfident_predictions_stay_near_the_truth() -> None:
    sharp = 4 * sampled(LONG_TAIL, 5000)
    log_probs = sharp - np.logaddexp.reduce(sharp, axis=1, keepdims=True)
    found = estimate_shares(log_probs, np.full(4, 25))
    assert np.abs(found - LONG_TAIL).sum() < 0.25


def test_no_images_have_the_labels_shares_and_a_sure_one_has_its_class() -> None:
    assert estimate_shares(np.empty((0, 4), np.float32), np.full(4, 25)).tolist() == EVEN.tolist()
    sure = np.log(np.array([[0.997, 0.001, 0.001, 0.001]], np.float32))
    assert estimate_shares(sure, np.full(4, 25))[0] > 0.9


def test_a_kind_of_alignment_has_its_shares() -> None:
    log_probs, counts = sampled(LONG_TAIL, 1000), np.array([30, 30, 30, 10])
    assert pool_shares("uniform", log_probs, counts).tolist() == EVEN.tolist()
    for kind in ("labeled", "none"):
        assert pool_shares(kind, log_probs, counts).tolist() == [0.3, 0.3, 0.3, 0.1]
    estimated = pool_shares("estimated", log_probs, counts)
    assert estimated.tolist() == estimate_shares(log_probs, counts).tolist()
    assert estimated[0] > 0.5


def test_what_a_taught_model_predicts_is_not_counted_twice() -> None:
    """Aligned to its own estimate, generation after generation, a model stays where it is."""
    generator = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), (500, 300, 150, 50))
    scores = 2.5 * np.eye(4)[truth] + generator.normal(0, 1, (1000, 4))
    log_probs = (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(np.float32)
    counts = np.full(4, 25)
    again = {}
    for taught in (False, True):
        moved = log_probs
        for generation in range(4):
            shares = estimate_shares(moved, counts, taught=taught and generation > 0)
            moved = aligned(moved, alignment_shift(moved, shares))
        again[taught] = np.exp(moved).mean(axis=0)
    once = estimate_shares(log_probs, counts)
    np.testing.assert_allclose(again[True], once, atol=5e-3)
    assert again[False][3] < 0.7 * again[True][3]
