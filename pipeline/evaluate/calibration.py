"""Make confidence mean what it says: one temperature, fitted on validation images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.metrics import Floats, Integers, check_predictions

LOWEST, HIGHEST = 0.05, 20.0
# Standard deviation of the prior on log T: T is expected within a factor e of 1 (two deviations).
PRIOR_DEVIATION = 0.5


def fit_temperature(
    logits: Floats, labels: Integers, *, prior_deviation: float = PRIOR_DEVIATION
) -> float:
    """The temperature T that makes softmax(logits / T) most likely (Guo et al. 2017, sec. 4.2).

    logits: (N, K), or log-probabilities; labels: (N,). A normal prior around log T = 0 is worth
    about as much as a few images: it decides where there are ten images, all right (the
    likelihood alone would say T → 0), and vanishes among hundreds. 1.0 where there are none.
    Raises DataError for labels that do not fit.
    """
    from scipy.optimize import minimize_scalar

    if len(labels) == 0:
        return 1.0
    check_predictions(logits, labels)
    scores = np.asarray(logits, dtype=np.float64)
    scores = scores - scores[np.arange(len(labels)), labels][:, None]

    def loss(log_temperature: float) -> float:
        surprise = _log_sum_exp(scores / math.exp(log_temperature)).sum()
        return float(surprise + 0.5 * (log_temperature / prior_deviation) ** 2)

    bounds = (math.log(LOWEST), math.log(HIGHEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(math.exp(found.x))


def apply_temperature(logits: Floats, temperature: float) -> Floats:
    """log softmax(logits / temperature), (N, K) in the type of `logits`."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    result: Floats = (scaled - _log_sum_exp(scaled)[:, None]).astype(logits.dtype)
    return result


def _log_sum_exp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    highest = values.max(axis=1, keepdims=True)
    total: NDArray[np.float64] = np.log(np.exp(values - highest).sum(axis=1)) + highest[:, 0]
    return total
