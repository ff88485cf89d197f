import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.train.schedule import phase, warmup_cosine
from tests.tiny import train_params


def test_it_warms_up_to_one_and_falls_to_nearly_zero() -> None:
    factors = [warmup_cosine(step, 100, 0.1) for step in range(100)]
    assert factors[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert 0 < factors[-1] < 1e-3
    assert warmup_cosine(100, 100, 0.1) == pytest.approx(0.0)


def test_without_warm_up_it_starts_at_one() -> None:
    assert warmup_cosine(0, 10, 0.0) == 1.0
    assert warmup_cosine(0, 1, 0.05) == 1.0


@given(st.integers(1, 300), st.floats(0, 0.999))
def test_it_rises_once_then_falls_within_bounds(steps: int, warmup_fraction: float) -> None:
    factors = [warmup_cosine(step, steps, warmup_fraction) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    top = factors.index(max(factors))
    assert factors[:top] == sorted(factors[:top])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert top == min(round(steps * warmup_fraction), steps - 1)


def test_fine_tuning_is_the_last_of_the_steps() -> None:
    train = train_params(steps=20, finetune_steps=5, finetune_learning_rate=0.001, image_size=8)
    main = [phase(train, step) for step in range(15)]
    assert all(params is train for params, _ in main)
    expected = [0.01 * warmup_cosine(step, 15, train.warmup_fraction) for step in range(15)]
    assert [rate for _, rate in main] == pytest.approx(expected)
    last = [phase(train, step) for step in range(15, 20)]
    assert [rate for _, rate in last] == pytest.approx(
        [0.001 * warmup_cosine(step, 5, 0.0) for step in range(5)]
    )
    for params, _ in last:
        assert params.labeled_augment == "none"
        assert params.unlabeled_ratio == 0
        assert params.image_size is None
