import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import log_loss

from pipeline.errors import DataError
from pipeline.tasks import metrics
from pipeline.tasks.metrics import (
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
)


def random_predictions(
    images: int = 300, classes: int = 7, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(images, classes)) * 2
    labels = generator.integers(0, classes, size=images)
    logits[np.arange(images), labels] += 1.5
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), labels


def test_metrics_equal_a_loop_over_images() -> None:
    log_probs, labels = random_predictions()
    right = top5 = 0
    surprise = 0.0
    for row, label in zip(log_probs, labels, strict=True):
        ranked = sorted(range(len(row)), key=lambda k: -row[k])
        right += ranked[0] == label
        top5 += label in ranked[:5]
        surprise -= row[label]
    assert metrics.correct(log_probs, labels).mean() == right / len(labels)
    assert metrics.top_k_accuracy(log_probs, labels) == top5 / len(labels)
    assert metrics.negative_log_likelihood(log_probs, labels) == pytest.approx(
        surprise / len(labels)
    )


def test_metrics_agree_with_scikit_learn() -> None:
    log_probs, labels = random_predictions(seed=3)
    confusion = metrics.confusion_matrix(log_probs, labels)
    np.testing.assert_array_equal(confusion, sklearn_confusion(labels, log_probs.argmax(axis=1)))
    assert metrics.negative_log_likelihood(log_probs, labels) == pytest.approx(
        log_loss(labels, np.exp(log_probs))
    )


def test_top5_is_absent_where_every_class_is_among_five() -> None:
    log_probs, labels = random_predictions(classes=5)
    assert metrics.top_k_accuracy(log_probs, labels) is None


def test_top_k_gives_no_credit_for_ties() -> None:
    log_probs = np.log(np.full((4, 10), 0.1))
    assert metrics.top_k_accuracy(log_probs, np.arange(4)) == 0.0


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.55, 0.45], [0.4, 0.6]])
    labels = np.array([0, 1, 0, 1])
    # Bins of 1/15: 0.95 in (14/15, 1]: gap |0.95 - 0.5|, two images; 0.55 in (8/15, 9/15] and
    # 0.6 on its upper edge: accuracy 1, confidence 0.575.
    expected = (2 * 0.45 + 2 * 0.425) / 4
    bins = metrics.calibration_bins(np.log(probabilities), labels)
    assert expected_calibration_error(bins) == pytest.approx(expected)


def test_calibration_bins_equal_a_loop_and_hold_every_image() -> None:
    log_probs, labels = random_predictions(seed=5)
    bins = metrics.calibration_bins(log_probs, labels)
    confidence = np.exp(log_probs.max(axis=1))
    right = log_probs.argmax(axis=1) == labels
    assert sum(part.images for part in bins) == len(labels)
    for part in bins:
        inside = [i for i, c in enumerate(confidence) if part.low < c <= part.high]
        assert part.images == len(inside)
        if inside:
            assert part.confidence == pytest.approx(np.mean([confidence[i] for i in inside]))
            assert part.accuracy == pytest.approx(np.mean([right[i] for i in inside]))
        else:
            assert part.confidence is None
            assert part.accuracy is None


def test_certain_predictions_are_in_the_last_bin() -> None:
    log_probs = np.log(np.array([[1.0, 1e-30], [1.0, 1e-30]]))
    bins = metrics.calibration_bins(log_probs, np.array([0, 0]))
    assert bins[-1].images == 2
    assert expected_calibration_error(bins) == 0.0


def test_an_impossible_label_keeps_the_likelihood_finite() -> None:
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.array([[1.0, 0.0]], dtype=np.float32))
    value = metrics.negative_log_likelihood(log_probs, np.array([1]))
    assert 80 < value < 100
    assert math.isfinite(value)


def test_half_precision_predictions_work() -> None:
    log_probs, labels = random_predictions()
    half = log_probs.astype(np.float16)
    assert metrics.negative_log_likelihood(half, labels) == pytest.approx(
        metrics.negative_log_likelihood(log_probs, labels), rel=1e-3
    )


@pytest.mark.parametrize(
    ("log_probs", "labels", "words"),
    [
        (np.zeros((3, 2)), np.zeros(2, dtype=int), "do not fit labels"),
        (np.zeros(3), np.zeros(3, dtype=int), "do not fit labels"),
        (np.zeros((0, 2)), np.zeros(0, dtype=int), "no labelled images"),
        (np.full((2, 2), np.nan), np.zeros(2, dtype=int), "2 predictions hold NaN"),
        (np.zeros((2, 2)), np.array([0, 2]), "do not fit 2 classes"),
        (np.zeros((2, 2)), np.array([-1, 0]), "do not fit 2 classes"),
    ],
)
def test_wrong_input_is_refused(
    log_probs: NDArray[np.float64], labels: NDArray[np.int64], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        metrics.correct(log_probs, labels)


def synthetic(
    temperature: float, images: int = 5000, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits whose labels are drawn from softmax(logits / temperature)."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(images, 5)) * 3
    probabilities = np.exp(apply_temperature(logits, temperature))
    labels = (probabilities.cumsum(axis=1) < generator.random((images, 1))).sum(axis=1)
    return logits, labels.clip(0, 4)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(temperature: float) -> None:
    logits, labels = synthetic(temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.08)


def test_the_fit_is_the_best_of_a_fine_grid() -> None:
    logits, labels = synthetic(2.0, images=2000, seed=3)
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 2000))
    losses = [negative_log_likelihood(apply_temperature(logits, t), labels) for t in grid]
    found = fit_temperature(logits, labels, prior_deviation=1e6)
    assert found == pytest.approx(grid[int(np.argmin(losses))], rel=0.01)


def test_calibrated_confidence_means_what_it_says() -> None:
    logits, labels = synthetic(3.0)
    before, after = (
        expected_calibration_error(
            metrics.calibration_bins(apply_temperature(logits, temperature), labels)
        )
        for temperature in (1.0, fit_temperature(logits, labels))
    )
    assert before > 0.15
    assert after < 0.03


@pytest.mark.parametrize("images", [1, 10, 30])
def test_few_images_all_right_do_not_drive_it_to_the_bound(images: int) -> None:
    logits = np.tile([3.0, 0.0, 0.0], (images, 1))
    labels = np.zeros(images, dtype=np.int64)
    assert 0.3 < fit_temperature(logits, labels) < 1.0
    assert 1.0 < fit_temperature(logits, labels + 1) < 20.0


def test_without_images_it_is_one() -> None:
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=np.int64)) == 1.0


def test_log_probabilities_serve_as_logits() -> None:
    logits, labels = synthetic(1.5, images=400)
    assert fit_temperature(apply_temperature(logits, 1.0), labels) == pytest.approx(
        fit_temperature(logits, labels)
    )


def test_apply_temperature_is_a_softmax_of_scaled_logits() -> None:
    logits = np.array([[1.0, 2.0, 3.0], [800.0, 0.0, -800.0]])
    result = apply_temperature(logits, 2.0)
    np.testing.assert_allclose(np.exp(result).sum(axis=1), 1.0)
    np.testing.assert_allclose(np.diff(result[0]), [0.5, 0.5])
    assert apply_temperature(logits.astype(np.float32), 2.0).dtype == np.float32


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError):
        fit_temperature(np.zeros((2, 3)), np.array([0, 3]))
