"""How sure an accuracy is, and whether a difference of two on the same images is one.

An accuracy has Wilson's interval; a difference the bootstrap's, and McNemar's test. Resampling the
right-or-wrong flags of two models draws from a multinomial distribution: drawing from it directly
is the same bootstrap at a cost that does not grow with the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from pipeline.errors import DataError
from pipeline.params import EvaluateParams
from pipeline.tasks.metrics import Flags

Verdict = Literal["better", "worse", "no difference shown"]
UNSHOWN: Verdict = "no difference shown"


@dataclass(frozen=True)
class Bootstrap:
    """How often images are resampled, by which seed, and the coverage of the interval."""

    samples: int = 1000
    interval: float = 0.95
    seed: int = 0

    @classmethod
    def of(cls, params: EvaluateParams, seed: int) -> Bootstrap:
        """As params.yaml says."""
        return cls(params.bootstrap_samples, params.interval, seed)


@dataclass(frozen=True)
class PairedTest:
    """Two models on the same images; `difference` = score after - score before.

    gained, lost: images that the later model has right and the earlier not, or the other way; where
    an image is neither right nor wrong, those whose own score rose or fell.
    """

    difference: float
    low: float
    high: float
    p_value: float
    gained: int
    lost: int
    verdict: Verdict


BOOTSTRAP = Bootstrap()


def accuracy_interval(correct: Flags, interval: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (1927) of the accuracy from flags (N,).

    It has a width at 0 and 100 % too, and stays within them. Raises DataError without images.
    """
    if correct.size == 0:
        raise DataError("no images to compute an interval from; at least one is needed")
    return _wilson(int(correct.sum()), correct.size, interval)


def _wilson(right: int, images: int, interval: float) -> tuple[float, float]:
    share, square = right / images, NormalDist().inv_cdf((1 + interval) / 2) ** 2
    middle = share + square / (2 * images)
    margin = (square * (share * (1 - share) / images + square / (4 * images**2))) ** 0.5
    whole = 1 + square / images
    low, high = (middle - margin) / whole, (middle + margin) / whole
    return (low if right else 0.0), (high if right < images else 1.0)


def mcnemar_p_value(gained: int, lost: int) -> float:
    """Two-sided exact p-value of McNemar (1947): are gains and losses equally likely?

    gained: images that only the second model has right; lost: only the first.
    """
    from scipy.special import bdtr

    if gained + lost == 0:
        return 1.0
    return min(1.0, 2.0 * float(bdtr(min(gained, lost), gained + lost, 0.5)))


def compare(before: Flags, after: Flags, bootstrap: Bootstrap = BOOTSTRAP) -> PairedTest:
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
    return compare_counts(gained, lost, before.size, bootstrap)


def compare_counts(
    gained: int, lost: int, images: int, bootstrap: Bootstrap = BOOTSTRAP
) -> PairedTest:
    """`compare` of two models that differ on `gained` + `lost` of `images` images."""
    bounds = _difference_interval(gained, lost, images, bootstrap)
    return compare_scores((gained - lost) / images, bounds, gained, lost, bootstrap.interval)


def compare_scores(
    difference: float, bounds: tuple[float, float], gained: int, lost: int, interval: float
) -> PairedTest:
    """The paired test of a difference of two scores, its bounds, and the images gained and lost."""
    low, high = bounds
    p_value = mcnemar_p_value(gained, lost)
    verdict = UNSHOWN
    if p_value < 1 - interval and (low > 0 or high < 0):
        verdict = "better" if low > 0 else "worse"
    return PairedTest(difference, low, high, p_value, gained, lost, verdict)


def normal_bounds(difference: float, error: float, interval: float) -> tuple[float, float]:
    """The bounds of a difference with this standard error."""
    margin = NormalDist().inv_cdf((1 + interval) / 2) * error
    return difference - margin, difference + margin


def _difference_interval(
    gained: int, lost: int, images: int, bootstrap: Bootstrap
) -> tuple[float, float]:
    """Percentile bootstrap interval of a difference (Efron 1979).

    Where all images are alike, none differing or all gained or lost, every resample is the same and
    would say that nothing else can be: there Wilson's interval of "all of them" says how many may
    be otherwise, for the better or the worse.
    """
    counts = [gained, lost, images - gained - lost]
    if max(counts) == images:
        otherwise = 1 - _wilson(images, images, bootstrap.interval)[0]
        difference = (gained - lost) / images
        margin = otherwise * (1 + abs(difference))
        return max(-1.0, difference - margin), min(1.0, difference + margin)
    generator = np.random.default_rng(bootstrap.seed)
    draws = generator.multinomial(images, np.array(counts) / images, size=bootstrap.samples)
    tail = (1 - bootstrap.interval) / 2
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / images, [tail, 1 - tail])
    return float(low), float(high)
