import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.evaluate.calibration import apply_temperature, fit_temperature
from pipeline.evaluate.metrics import expected_calibration_error, negative_log_likelihood


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
    before = expected_calibration_error(apply_temperature(logits, 1.0), labels)
    after = expected_calibration_error(
        apply_temperature(logits, fit_temperature(logits, labels)), labels
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
