"""Whether a difference is one: bootstrap intervals and McNemar's test on the same images.

Resampling N right-or-wrong flags with replacement and averaging draws from a binomial
distribution, and the flags of two models from a multinomial one. Drawing from these directly is
the same bootstrap at a cost that does not grow with N.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

Verdict = Literal["better", "worse", "no difference beyond the interval"]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class PairedTest:
    """Two models on the same images; `difference` = accuracy after - accuracy before."""

    difference: float
    low: float
    high: float
    p_value: float
    gained: int
    lost: int
    verdict: Verdict


def accuracy_interval(
    correct: Flags, *, samples: int = 1000, interval: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the accuracy (Efron 1979) from flags (N,).

    It has no width where every flag is the same. Raises DataError without images.
    """
    if correct.size == 0:
        raise DataError("no images to compute an interval from; at least one is needed")
    generator = np.random.default_rng(seed)
    share = float(correct.mean())
    draws = generator.binomial(correct.size, share, size=samples) / correct.size
    return _percentiles(draws, interval)


def mcnemar_p_value(gained: int, lost: int) -> float:
    """Two-sided exact p-value of McNemar (1947): are gains and losses equally likely?

    gained: images that only the second model has right; lost: only the first.
    """
    from scipy.special import bdtr

    if gained + lost == 0:
        return 1.0
    return min(1.0, 2.0 * float(bdtr(min(gained, lost), gained + lost, 0.5)))


def compare(
    before: Flags, after: Flags, *, samples: int = 1000, interval: float = 0.95, seed: int = 0
) -> PairedTest:
    """Paired test of two models from which of the same images (N,) each has right.

    "better" or "worse" is said only where both the bootstrap interval of the difference leaves
    out 0 and McNemar's p-value is below 1 - interval: with few images that differ, the bootstrap
    alone is too sure. Raises DataError for flags of different length, or none.
    """
    if before.shape != after.shape or before.size == 0:
        raise DataError(
            f"can't pair predictions of {before.size} and {after.size} images; "
            "they must be the same images, and at least one"
        )
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    return compare_counts(gained, lost, before.size, samples=samples, interval=interval, seed=seed)


def compare_counts(
    gained: int,
    lost: int,
    images: int,
    *,
    samples: int = 1000,
    interval: float = 0.95,
    seed: int = 0,
) -> PairedTest:
    """`compare` of two models that differ on `gained` + `lost` of `images` images."""
    shares = np.array([gained, lost, images - gained - lost]) / images
    draws = np.random.default_rng(seed).multinomial(images, shares, size=samples)
    low, high = _percentiles((draws[:, 0] - draws[:, 1]) / images, interval)
    p_value = mcnemar_p_value(gained, lost)
    return PairedTest(
        difference=(gained - lost) / images,
        low=low,
        high=high,
        p_value=p_value,
        gained=gained,
        lost=lost,
        verdict=_verdict(low, high, p_value < 1 - interval),
    )


def _percentiles(draws: NDArray[np.float64], interval: float) -> tuple[float, float]:
    tail = (1 - interval) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def _verdict(low: float, high: float, significant: bool) -> Verdict:
    if significant and low > 0:
        return "better"
    if significant and high < 0:
        return "worse"
    return "no difference beyond the interval"
