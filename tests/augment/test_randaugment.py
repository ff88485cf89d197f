"""RandAugment: the fused batch against the operations one by one, and whose draw is whose."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from pipeline.augment import randaugment
from pipeline.augment.draws import Draws
from pipeline.augment.elastic import elastic
from pipeline.augment.randaugment import COLOUR, OPERATIONS, draw_plan, rand_augment
from pipeline.errors import ParameterError
from pipeline.params import Operation
from tests.augment.images import draws, levels, most_apart, shares
from tests.augment.references import one_operation

ALL = tuple(OPERATIONS)


def test_every_operation_that_parameters_name_is_there() -> None:
    assert get_args(Operation) == OPERATIONS


@pytest.mark.parametrize("name", [name for name in get_args(Operation) if name != "elastic"])
def test_one_operation_equals_its_function(name: str) -> None:
    for images, allowed in ((levels(6), 1), (shares(6), 1e-4)):
        result = rand_augment(images, draws(6), operations=[name], num_ops=1, magnitude=17)
        plan = draw_plan(draws(6), [name], 1, 17, 0)
        expected = [
            one_operation(name, image[None], float(plan.levels[n, 0]), plan, n)
            for n, image in enumerate(images)
        ]
        assert most_apart(result, torch.cat(expected)) <= allowed
        assert name == "identity" or not torch.equal(result, images)


def test_elastic_uses_its_drawn_knots() -> None:
    images = shares(3, 1, 16, 16)
    result = rand_augment(images, draws(3), operations=["elastic"], num_ops=1, magnitude=15)
    plan = draw_plan(draws(3), ["elastic"], 1, 15, 0)
    assert plan.knots is not None
    assert most_apart(result, elastic(images, plan.knots, torch.full((3,), 0.045 * 16))) < 1e-4
    assert most_apart(result, images) > 0.05


def test_operations_of_one_image_follow_each_other() -> None:
    names = ["rotate", "translate_x", "solarize", "contrast", "posterize"]
    images = levels(40)
    result = rand_augment(images, draws(40), operations=names, num_ops=3, magnitude=9)
    plan = draw_plan(draws(40), names, 3, 9, 0)
    checked = 0
    for n in range(40):
        drawn = [names[int(k)] for k in plan.chosen[n]]
        turns = [name for name in drawn if name in ("rotate", "translate_x")]
        if len(turns) > 1:
            continue  # fused: no second resampling to compare with
        slow = images[n : n + 1]
        order = sorted(range(3), key=lambda k: drawn[k] not in turns)  # geometry first
        for k in order:
            slow = one_operation(drawn[k], slow, float(plan.levels[n, k]), plan, n)
        assert most_apart(result[n : n + 1], slow) <= 0
        checked += 1
    assert checked >= 15


def test_geometry_is_fused_in_the_order_drawn() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 3, 48), torch.linspace(0, 3, 48), indexing="ij")
    images = (0.5 + 0.4 * torch.sin(2 * x) * torch.cos(y)).expand(24, 1, 48, 48)
    names = ["rotate", "translate_y"]
    result = rand_augment(images, draws(24), operations=names, num_ops=2, magnitude=9)
    plan = draw_plan(draws(24), names, 2, 9, 0)
    inside = (..., slice(16, -16), slice(16, -16))
    for n in range(24):
        slow = images[n : n + 1]
        for k in range(2):
            name = names[int(plan.chosen[n, k])]
            slow = one_operation(name, slow, float(plan.levels[n, k]), plan, n)
        assert most_apart(result[n : n + 1][inside], slow[inside]) < 4e-3


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("kind", [levels, shares])
def test_workers_together_do_what_one_does(kind: Callable[[int], Tensor], workers: int) -> None:
    images = kind(24)
    options = {"operations": ALL, "num_ops": 3, "magnitude": 10.0, "magnitude_std": 2.0}
    whole = rand_augment(images, draws(24), **options)  # type: ignore[arg-type]
    for rank in range(workers):
        rows = slice(rank, None, workers)
        part = rand_augment(images[rows], draws(24, rows=rows), **options)  # type: ignore[arg-type]
        assert torch.equal(part, whole[rows])


def test_cache_sized_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = levels(12)
    whole = rand_augment(images, draws(12), operations=ALL, num_ops=3, magnitude=12)
    for values in (1, 3 * images[0].numel()):
        monkeypatch.setattr(randaugment, "CACHED_VALUES", values)
        assert torch.equal(
            rand_augment(images, draws(12), operations=ALL, num_ops=3, magnitude=12), whole
        )


def test_repeats_and_leaves_its_input_and_the_global_generator() -> None:
    images = shares(8)
    before, state = images.clone(), torch.random.get_rng_state()
    first, again, other = (
        rand_augment(images, draws(8, seed), operations=ALL, num_ops=2, magnitude=10)
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images, before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_each_image_draws_for_itself() -> None:
    same = levels(1).repeat(32, 1, 1, 1)
    result = rand_augment(same, draws(32), operations=ALL, num_ops=2, magnitude=10)
    assert len({image.numpy().tobytes() for image in result}) > 24


def test_draws_cover_operations_and_directions_evenly() -> None:
    plan = draw_plan(Draws(0, 5000), ALL, 2, 10, 0)
    shares_drawn = plan.chosen.flatten().bincount(minlength=len(ALL)) / plan.chosen.numel()
    assert torch.allclose(shares_drawn, torch.tensor(1 / len(ALL)), atol=0.01)
    assert torch.allclose(plan.levels.abs(), torch.tensor(1 / 3))
    assert abs(float(plan.levels.sign().mean())) < 0.03


def test_magnitude_spreads_within_the_scale() -> None:
    levels_drawn = draw_plan(Draws(0, 5000), ALL, 2, 15, 5).levels.abs() * 30
    assert float(levels_drawn.mean()) == pytest.approx(15, abs=0.2)
    assert float(levels_drawn.std()) == pytest.approx(5, rel=0.05)
    assert float(draw_plan(Draws(0, 5000), ALL, 1, 29, 9).levels.abs().max()) == 1


def test_no_magnitude_leaves_all_but_the_histogram_operations() -> None:
    names = [name for name in ALL if name not in ("equalize", "autocontrast", "solarize")]
    images = shares(16)
    result = rand_augment(images, draws(16), operations=names, num_ops=2, magnitude=0)
    assert most_apart(result, images) < 0.004  # posterize keeps 8 bits of a float


def test_one_channel_works_with_every_operation() -> None:
    for images in (levels(64, 1), shares(64, 1)):
        result = rand_augment(images, draws(64), operations=ALL, num_ops=2, magnitude=10)
        assert result.shape == images.shape
        assert result.dtype == images.dtype


def test_nearest_takes_values_that_are_there() -> None:
    images = levels(8, 1)
    result = rand_augment(
        images, draws(8), operations=["rotate"], num_ops=1, magnitude=20, interpolation="nearest"
    )
    plan = draw_plan(draws(8), ["rotate"], 1, 20, 0)
    slow = [
        reference.rotate(image, float(level) * 30)
        for image, level in zip(images, plan.levels[:, 0], strict=True)
    ]
    assert (result != torch.stack(slow)).float().mean() < 0.01


@pytest.mark.parametrize("name", sorted(COLOUR))
def test_colour_operations_do_something(name: str) -> None:
    images = shares(8)
    result = rand_augment(images, draws(8), operations=[name], num_ops=1, magnitude=20)
    assert not torch.equal(result, images)
    assert 0 <= result.min() <= result.max() <= 1


def test_unknown_and_missing_operations_are_named() -> None:
    with pytest.raises(ParameterError, match=r"augment.operations: 'rotat' .* rotate"):
        rand_augment(levels(2), draws(2), operations=["rotat"], num_ops=1, magnitude=5)
    with pytest.raises(ParameterError, match=r"augment.operations = \[\]"):
        rand_augment(levels(2), draws(2), operations=[], num_ops=1, magnitude=5)


def test_uniform_magnitudes_fill_the_range_up_to_the_magnitude() -> None:
    levels = draw_plan(Draws(0, 5000), ALL, 2, 15, 0, sampling="uniform").levels * 30
    assert levels.abs().max() <= 15
    assert abs(float(levels.abs().mean()) - 7.5) < 0.2
    assert 0.45 < float((levels > 0).float().mean()) < 0.55


def test_distinct_operations_come_once_and_all_of_them_if_asked() -> None:
    chosen = draw_plan(Draws(1, 500), ALL, 3, 9, 0, distinct=True).chosen
    assert all(len(set(row)) == 3 for row in chosen.tolist())
    every = draw_plan(Draws(1, 500), ALL, len(ALL), 9, 0, distinct=True).chosen
    assert all(sorted(row) == list(range(len(ALL))) for row in every.tolist())
