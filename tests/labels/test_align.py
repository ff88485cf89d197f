import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.labels.align import TOLERANCE, aligned, alignment_shift, every_row


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
    assert every_row(50, 4) == 1
    assert every_row(50, 4, 4 * 50) == 1
    assert every_row(50, 4, 4 * 49) == 2
    assert every_row(50, 4, 4 * 20) == 3
    assert every_row(0, 4) == 1


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
