"""Draws belong to an image's place in the global batch, not to the worker that holds it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.augment.draws import Draws


def _all_kinds(draws: Draws) -> list[Tensor]:
    return [
        draws.uniform(2),
        draws.signed(),
        draws.normal(3, 2),
        draws.integers(7, 2),
        draws.beta(0.4),
    ]


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 12])
def test_workers_together_draw_what_one_draws_alone(workers: int) -> None:
    total = 12
    whole = _all_kinds(Draws(3, total))
    for rank in range(workers):
        rows = slice(rank, None, workers)
        part = Draws(3, total, rows)
        for mine, all_of_it in zip(_all_kinds(part), whole, strict=True):
            assert torch.equal(mine, all_of_it[rows])


def test_seeds_differ_and_repeat_without_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (_all_kinds(Draws(seed, 16)) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_ranges_and_moments() -> None:
    draws = Draws(0, 20_000)
    uniform, signed, normal = draws.uniform(), draws.signed(), draws.normal()
    assert 0 <= uniform.min() < 0.001
    assert 0.999 < uniform.max() < 1
    assert -1 <= signed.min() < -0.999
    assert abs(float(signed.mean())) < 0.02
    assert abs(float(normal.std()) - 1) < 0.02
    assert set(draws.integers(5).tolist()) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_beta_has_the_moments_of_its_distribution(alpha: float) -> None:
    values = Draws(0, 20_000).beta(alpha)
    assert values.dtype == torch.float32
    assert 0 <= values.min() <= values.max() <= 1
    assert abs(float(values.mean()) - 0.5) < 0.01
    assert float(values.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)
