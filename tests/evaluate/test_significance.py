import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from pipeline.errors import DataError
from pipeline.evaluate.significance import accuracy_interval, compare, mcnemar_p_value


def flags(right: int, images: int) -> NDArray[np.bool_]:
    return np.arange(images) < right


def paired(
    both: int, gained: int, lost: int, neither: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    before = [True] * both + [False] * gained + [True] * lost + [False] * neither
    after = [True] * both + [True] * gained + [False] * lost + [False] * neither
    return np.array(before), np.array(after)


def test_interval_equals_resampling_the_images() -> None:
    correct = flags(170, 200)
    generator = np.random.default_rng(1)
    means = [generator.choice(correct, size=200).mean() for _ in range(4000)]
    low, high = accuracy_interval(correct, samples=4000)
    assert low == pytest.approx(np.quantile(means, 0.025), abs=0.006)
    assert high == pytest.approx(np.quantile(means, 0.975), abs=0.006)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    truth = 0.8
    covered = 0
    for trial in range(400):
        low, high = accuracy_interval(generator.random(300) < truth, interval=0.9, seed=trial)
        covered += low <= truth <= high
    assert 0.85 <= covered / 400 <= 0.95


def test_interval_repeats_and_depends_on_the_seed() -> None:
    correct = flags(70, 100)
    assert accuracy_interval(correct, seed=1) == accuracy_interval(correct, seed=1)
    assert len({accuracy_interval(correct, samples=100, seed=seed) for seed in range(8)}) > 1


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 5), (9, 2), (40, 70), (900, 800)])
def test_mcnemar_equals_the_binomial_test(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    assert mcnemar_p_value(gained, lost) == pytest.approx(expected)


def test_mcnemar_by_hand() -> None:
    # Of 5 images that differ all 5 are gained: 2 × (1/2)^5.
    assert mcnemar_p_value(5, 0) == pytest.approx(2 / 32)


def test_difference_and_its_interval_equal_resampling_pairs() -> None:
    before, after = paired(150, 30, 10, 10)
    result = compare(before, after, samples=4000)
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
    ("gained", "lost", "verdict"),
    [
        (30, 10, "better"),
        (10, 30, "worse"),
        (12, 10, "no difference beyond the interval"),
        (0, 0, "no difference beyond the interval"),
        # The bootstrap alone leaves out 0 here (p of no gain in a resample: e^-4).
        (4, 0, "no difference beyond the interval"),
    ],
)
def test_verdict_follows_the_evidence(gained: int, lost: int, verdict: str) -> None:
    assert compare(*paired(150, gained, lost, 10)).verdict == verdict


def test_equal_models_are_rarely_told_apart() -> None:
    generator = np.random.default_rng(4)
    told_apart = 0
    for trial in range(300):
        first, second = generator.random((2, 200)) < 0.9
        told_apart += compare(first, second, seed=trial).verdict in ("better", "worse")
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
