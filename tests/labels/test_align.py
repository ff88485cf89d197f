import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.labels.align import aligned, alignment_shift, mean_prediction


def predictions(count: int, classes: int, seed: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    skew = generator.uniform(0.3, 3.0, classes)
    return np.log(generator.dirichlet(skew, size=count) + 1e-9).astype(np.float32)


def slow(log_probs: NDArray[np.float32], target: list[float]) -> NDArray[np.float64]:
    """ReMixMatch's formula, image by image."""
    rows = [[float(np.exp(value)) for value in row] for row in log_probs]
    means = [sum(row[k] for row in rows) / len(rows) for k in range(len(target))]
    moved = []
    for row in rows:
        ratios = [p * target[k] / means[k] for k, p in enumerate(row)]
        moved.append([value / sum(ratios) for value in ratios])
    return np.array(moved)


@given(st.integers(1, 20), st.integers(2, 5), st.integers(0, 1000))
def test_it_is_what_a_slow_loop_over_the_images_gives(count: int, classes: int, seed: int) -> None:
    log_probs = predictions(count, classes, seed)
    target = np.random.default_rng(seed).dirichlet(np.full(classes, 5.0))
    shift = alignment_shift(mean_prediction([log_probs], classes), target)
    result = aligned(log_probs, shift)
    np.testing.assert_allclose(np.exp(result), slow(log_probs, target.tolist()), atol=1e-5)
    assert result.dtype == np.float32


def test_the_mean_does_not_need_all_shards_at_once() -> None:
    log_probs = predictions(50, 4, 0)
    parts = (log_probs[start : start + 7] for start in range(0, 50, 7))
    np.testing.assert_allclose(
        mean_prediction(parts, 4), np.exp(log_probs.astype(np.float64)).mean(axis=0), rtol=1e-12
    )
    assert mean_prediction([], 4).tolist() == [0.25] * 4


def test_predictions_that_follow_the_target_stay() -> None:
    log_probs = predictions(30, 3, 1)
    mean = mean_prediction([log_probs], 3)
    np.testing.assert_allclose(
        np.exp(aligned(log_probs, alignment_shift(mean, mean))), np.exp(log_probs), atol=1e-6
    )


def test_a_biased_teacher_is_moved_towards_the_target() -> None:
    probabilities = np.tile(np.array([[0.6, 0.3, 0.1], [0.5, 0.2, 0.3]], np.float32), (10, 1))
    log_probs = np.log(probabilities)
    shift = alignment_shift(mean_prediction([log_probs], 3), np.full(3, 1 / 3))
    after = np.exp(aligned(log_probs, shift)).mean(axis=0)
    before = probabilities.mean(axis=0)
    assert np.abs(after - 1 / 3).max() < 0.1 < np.abs(before - 1 / 3).max()


def test_a_class_that_is_never_given_any_probability_is_left_alone() -> None:
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.array([[0.9, 0.1, 0.0], [0.3, 0.7, 0.0]], np.float32))
    shift = alignment_shift(mean_prediction([log_probs], 3), np.full(3, 1 / 3))
    result = np.exp(aligned(log_probs, shift))
    assert np.isfinite(result).all()
    assert result[:, 2].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(result.sum(axis=1), 1, rtol=1e-6)
    assert shift[2] == pytest.approx(0.0)
