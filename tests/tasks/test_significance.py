import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest

from pipeline.errors import DataError
from pipeline.tasks.significance import (
    Bootstrap,
    accuracy_interval,
    compare,
    compare_counts,
    mcnemar_p_value,
)


def flags(right: int, images: int) -> NDArray[np.bool_]:
    return np.arange(images) < right


def paired(
    both: int, gained: int, lost: int, neither: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    before = [True] * both + [False] * gained + [True] * lost + [False] * neither
    after = [True] * both + [True] * gained + [False] * lost + [False] * neither
    return np.array(before), np.array(after)


@given(images=st.integers(1, 5000), share=st.floats(0, 1), interval=st.floats(0.5, 0.999))
def test_interval_is_wilson_s(images: int, share: float, interval: float) -> None:
    right = round(images * share)
    expected = binomtest(right, images).proportion_ci(interval, method="wilson")
    found = accuracy_interval(flags(right, images), interval)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_interval_by_hand() -> None:
    # z^2 = 3.8415; of 9 of 9 the lower bound is 9 / (9 + z^2).
    assert accuracy_interval(flags(9, 9)) == pytest.approx((9 / 12.8415, 1.0), abs=1e-5)
    assert accuracy_interval(flags(0, 9)) == pytest.approx((0.0, 3.8415 / 12.8415), abs=1e-5)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    truth = 0.8
    covered = 0
    for _ in range(400):
        low, high = accuracy_interval(generator.random(300) < truth, interval=0.9)
        covered += low <= truth <= high
    assert 0.85 <= covered / 400 <= 0.95


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 5), (9, 2), (40, 70), (900, 800)])
def test_mcnemar_equals_the_binomial_test(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    assert mcnemar_p_value(gained, lost) == pytest.approx(expected)


def test_mcnemar_by_hand() -> None:
    # Of 5 images that differ all 5 are gained: 2 × (1/2)^5.
    assert mcnemar_p_value(5, 0) == pytest.approx(2 / 32)


def test_difference_and_its_interval_equal_resampling_pairs() -> None:
    before, after = paired(150, 30, 10, 10)
    result = compare(before, after, Bootstrap(samples=4000))
    generator = np.random.default_rng(2)
    draws = []
    for _ in range(4000):
        rows = generator.integers(0, 200, size=200)
        draws.append(after[rows].mean() - before[rows].mean())
    assert result.difference == pytest.approx(0.1)
    assert (result.gained, result.lost) == (30, 10)
    assert result.low == pytest.approx(np.quantile(draws, 0.025), abs=0.006)
    assert result.high == pytest.approx(np.quantile(draws, 0.975), abs=0.006)


@pytest.mark.parametrize(
    ("gained", "lost", "low", "high"),
    [(0, 0, -0.2991, 0.2991), (9, 0, 0.4017, 1.0), (0, 9, -1.0, -0.4017)],
)
def test_a_difference_of_images_that_are_all_alike_has_an_interval_too(
    gained: int, lost: int, low: float, high: float
) -> None:
    found = compare_counts(gained, lost, 9)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(
    ("gained", "lost", "verdict"),
    [
        (30, 10, "better"),
        (10, 30, "worse"),
        (12, 10, "no difference shown"),
        (0, 0, "no difference shown"),
        # The bootstrap alone leaves out 0 here (p of no gain in a resample: e^-4).
        (4, 0, "no difference shown"),
    ],
)
def test_verdict_follows_the_evidence(gained: int, lost: int, verdict: str) -> None:
    assert compare(*paired(150, gained, lost, 10)).verdict == verdict


def test_equal_models_are_rarely_told_apart() -> None:
    generator = np.random.default_rng(4)
    told_apart = 0
    for trial in range(300):
        first, second = generator.random((2, 200)) < 0.9
        told_apart += compare(first, second, Bootstrap(seed=trial)).verdict in ("better", "worse")
    assert told_apart / 300 <= 0.07


def test_the_order_of_models_only_turns_the_sign() -> None:
    before, after = paired(100, 20, 5, 5)
    forth, back = compare(before, after), compare(after, before)
    assert forth.difference == -back.difference
    assert forth.p_value == back.p_value


def test_what_can_not_be_compared_is_refused() -> None:
    with pytest.raises(DataError, match="3 and 4 images"):
        compare(flags(1, 3), flags(1, 4))
    with pytest.raises(DataError, match="at least one"):
        accuracy_interval(flags(0, 0))
