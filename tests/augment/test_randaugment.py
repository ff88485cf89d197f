"""RandAugment: the fused batch against the operations one by one, and whose draw is whose."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from pipeline.augment import Draws, randaugment
from pipeline.augment.randaugment import COLOUR, OPERATIONS, Plan, draw_plan, rand_augment
from pipeline.params import AugmentParams, Operation
from tests.augment.images import draws, most_apart, shares
from tests.augment.references import one_operation, warped

ALL = get_args(Operation)


def params(*operations: str, **changes: Any) -> AugmentParams:
    return AugmentParams(operations=operations or ALL, **({"num_ops": 2} | changes))


def plan_of(count: int, augment: AugmentParams) -> Plan:
    return draw_plan(draws(count), augment)


def test_every_operation_that_parameters_name_is_there() -> None:
    assert ALL == OPERATIONS


@pytest.mark.parametrize("name", [name for name in ALL if name != "elastic"])
@pytest.mark.parametrize("channels", [1, 3])
def test_one_operation_equals_its_function(name: str, channels: int) -> None:
    images, augment = shares(6, channels), params(name, num_ops=1, magnitude=17.0)
    result, plan = rand_augment(images, draws(6), augment), plan_of(6, augment)
    expected = [
        one_operation(name, image[None], float(plan.levels[n, 0]), plan, n)
        for n, image in enumerate(images)
    ]
    assert most_apart(result, torch.cat(expected)) <= 1e-4
    if channels == 3:
        assert torch.equal(result, images) == (name == "identity")
        assert 0 <= result.min() <= result.max() <= 1 + 1e-6


def test_elastic_uses_its_drawn_knots() -> None:
    images, augment = shares(3, 1, 16, 16), params("elastic", num_ops=1, magnitude=15.0)
    result, plan = rand_augment(images, draws(3), augment), plan_of(3, augment)
    assert plan.knots is not None
    assert most_apart(result, warped(images, plan.knots, torch.full((3,), 0.045 * 16))) < 1e-4
    assert most_apart(result, images) > 0.05


def test_geometry_is_fused_in_the_order_drawn() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 3, 48), torch.linspace(0, 3, 48), indexing="ij")
    images = (0.5 + 0.4 * torch.sin(2 * x) * torch.cos(y)).expand(24, 1, 48, 48)
    names = ("rotate", "translate_y")
    augment = params(*names, magnitude=9.0)
    result, plan = rand_augment(images, draws(24), augment), plan_of(24, augment)
    inside = (..., slice(16, -16), slice(16, -16))
    for n in range(24):
        slow = images[n : n + 1]
        for k in range(2):
            name = names[int(plan.indices[n, k])]
            slow = one_operation(name, slow, float(plan.levels[n, k]), plan, n)
        assert most_apart(result[n : n + 1][inside], slow[inside]) < 4e-3


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_workers_together_do_what_one_does(workers: int) -> None:
    images, augment = shares(24), params(num_ops=3, magnitude_std=2.0)
    whole = rand_augment(images, draws(24), augment)
    for rank in range(workers):
        rows = slice(rank, None, workers)
        part = rand_augment(images[rows], draws(24, rows=rows), augment)
        assert torch.equal(part, whole[rows])


def test_cache_sized_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images, augment = shares(12), params(num_ops=3, magnitude=12.0)
    whole = rand_augment(images, draws(12), augment)
    for values in (1, 3 * images[0].numel()):
        monkeypatch.setattr(randaugment, "CACHED_VALUES", values)
        assert torch.equal(rand_augment(images, draws(12), augment), whole)


def test_repeats_and_leaves_its_input_and_the_global_generator() -> None:
    images = shares(8)
    before, state = images.clone(), torch.random.get_rng_state()
    first, again, other = (rand_augment(images, draws(8, seed), params()) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images, before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_each_image_draws_for_itself() -> None:
    same = shares(1).repeat(32, 1, 1, 1)
    result = rand_augment(same, draws(32), params())
    assert len({image.numpy().tobytes() for image in result}) > 24


def test_draws_cover_operations_and_directions_evenly() -> None:
    plan = draw_plan(Draws(0, 5000), params())
    drawn = plan.indices.flatten().bincount(minlength=len(ALL)) / plan.indices.numel()
    assert torch.allclose(drawn, torch.tensor(1 / len(ALL)), atol=0.01)
    assert torch.allclose(plan.levels.abs(), torch.tensor(1 / 3))
    assert abs(float(plan.levels.sign().mean())) < 0.03


def magnitudes(**changes: Any) -> Tensor:
    return draw_plan(Draws(0, 5000), params(**changes)).levels * 30


def test_magnitudes_spread_within_the_scale() -> None:
    normal = magnitudes(magnitude=15.0, magnitude_std=5.0).abs()
    assert float(normal.mean()) == pytest.approx(15, abs=0.2)
    assert float(normal.std()) == pytest.approx(5, rel=0.05)
    assert float(magnitudes(magnitude=29.0, magnitude_std=9.0).abs().max()) == 30
    uniform = magnitudes(magnitude=15.0, magnitude_sampling="uniform")
    assert uniform.abs().max() <= 15
    assert abs(float(uniform.abs().mean()) - 7.5) < 0.2
    assert 0.45 < float((uniform > 0).float().mean()) < 0.55


def test_no_magnitude_leaves_all_but_the_histogram_operations() -> None:
    names = [name for name in ALL if name not in ("equalize", "autocontrast", "solarize")]
    images = shares(16)
    result = rand_augment(images, draws(16), params(*names, magnitude=0.0))
    assert most_apart(result, images) < 0.004  # posterize keeps 8 bits of a float


def test_distinct_operations_come_once_and_all_of_them_where_as_many_are_done() -> None:
    for count in (3, len(COLOUR)):
        augment = params(*COLOUR, num_ops=count, distinct_ops=True)
        chosen = draw_plan(Draws(1, 500), augment).indices.tolist()
        assert all(len(set(row)) == count for row in chosen)
