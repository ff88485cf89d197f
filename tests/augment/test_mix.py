"""MixUp, CutMix, ClassMix: shares, boxes, partners; test_accuracy.py compares pixels with loops."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from pipeline.augment.draws import Draws
from pipeline.augment.mix import (
    Pair,
    blend,
    classmix,
    cutmix,
    cutmix_boxes,
    mix,
    mixup,
    paste,
    paste_pixels,
)
from tests.augment.images import draws, most_apart, shares

Mix = Callable[[Pair, Draws, float], Pair]


def some_pairs(count: int, classes: int = 5) -> Pair:
    return shares(count), torch.softmax(draws(count, 9).normal(classes), dim=1)


def mix_both(pair: Pair, draws: Draws, alpha: float) -> Pair:
    return mix(*pair, draws, kind="both", alpha=alpha)


def mixed_by_hand(targets: Tensor, own: Tensor) -> Tensor:
    """Each target with that of the image half the batch away, in the shares own (N,)."""
    rows = [
        own[n] * targets[n] + (1 - own[n]) * targets[(n + len(targets) // 2) % len(targets)]
        for n in range(len(targets))
    ]
    return torch.stack(rows)


def test_targets_mix_by_the_shares_of_the_images() -> None:
    images, targets = some_pairs(6)
    mixed = mixup((images, targets), draws(6), 0.4)[1]
    assert most_apart(mixed, mixed_by_hand(targets, draws(6).beta(0.4))) < 1e-6
    mixed = cutmix((images, targets), draws(6), 1.0)[1]
    top, left, bottom, right = cutmix_boxes(draws(6), 1.0, *images.shape[-2:]).unbind(1)
    own = 1 - (bottom - top) * (right - left) / images[0, 0].numel()
    assert most_apart(mixed, mixed_by_hand(targets, own)) < 1e-6


def test_boxes_have_the_area_and_places_of_the_paper() -> None:
    count, side = 4000, 64
    boxes = cutmix_boxes(Draws(0, count), 1.0, side, side)
    expected = 1 - Draws(0, count).beta(1.0)
    top, left, bottom, right = boxes.unbind(1)
    assert 0 <= int(boxes.min()) <= int(boxes.max()) <= side
    whole = (top > 0) & (left > 0) & (bottom < side) & (right < side)
    area = ((bottom - top) * (right - left)) / side**2
    assert float((area[whole] - expected[whole]).abs().max()) < 2 / side
    assert (area <= expected + 1e-6).all()
    assert int(top.max()) > 50
    assert int(left.min()) == 0


@pytest.mark.parametrize("workers", [1, 2, 3, 6])
@pytest.mark.parametrize("mixing", [mixup, cutmix, mix_both])
def test_workers_with_even_rows_together_do_what_one_does(mixing: Mix, workers: int) -> None:
    images, targets = some_pairs(12)
    whole, whole_targets = mixing((images, targets), draws(12), 1.0)
    assert not torch.equal(whole, images)
    for rank in range(workers):
        rows = slice(rank, None, workers)
        part, part_targets = mixing((images[rows], targets[rows]), draws(12, rows=rows), 1.0)
        assert torch.equal(part, whole[rows])
        assert torch.equal(part_targets, whole_targets[rows])


@pytest.mark.parametrize("mixing", [mixup, cutmix])
def test_one_image_is_its_own_partner(mixing: Mix) -> None:
    image, target = some_pairs(1)
    mixed, mixed_target = mixing((image, target), draws(1), 1.0)
    assert torch.allclose(mixed, image)
    assert torch.allclose(mixed_target, target)


def test_given_partners_mix_by_given_shares() -> None:
    black = torch.zeros(1, 1, 4, 4), torch.tensor([[1.0, 0.0]])
    white = torch.ones(1, 1, 4, 4), torch.tensor([[0.0, 1.0]])
    images, targets = blend(black, white, torch.tensor([0.25]))
    assert torch.allclose(images, torch.tensor(0.75))
    assert torch.allclose(targets, torch.tensor([[0.25, 0.75]]))
    images, targets = paste(black, white, torch.tensor([[0, 0, 2, 4]]))
    assert images[0, 0].sum(dim=1).tolist() == [4, 4, 0, 0]
    assert torch.allclose(targets, torch.tensor([[0.5, 0.5]]))


def test_each_kind_is_its_function_and_both_one_of_them_for_each_image() -> None:
    count = 400
    images, targets = some_pairs(2)
    pair = images.repeat(count // 2, 1, 1, 1), targets.repeat(count // 2, 1)
    one = partial(mix, *pair, alpha=0.7)
    assert torch.equal(one(draws(count), kind="mixup")[0], mixup(pair, draws(count), 0.7)[0])
    assert torch.equal(one(draws(count), kind="cutmix")[0], cutmix(pair, draws(count), 0.7)[0])
    both, both_targets = one(draws(count), kind="both")
    stream = draws(count)
    averaged = stream.uniform() < 0.5
    first, second = mixup(pair, stream, 0.7), cutmix(pair, stream, 0.7)
    for n in range(count):
        expected = first if averaged[n] else second
        assert torch.equal(both[n], expected[0][n])
        assert torch.equal(both_targets[n], expected[1][n])
    assert 150 < int(averaged.sum()) < 250


def test_classmix_pastes_half_of_the_partners_classes_and_nothing_unknown() -> None:
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(5, (8, 6, 6), generator=generator)
    classes[:, 0] = 255
    inside = classmix(classes, draws(8), 5)[:, 0]
    partners = classes.roll(-4, dims=0)
    for place, partner in zip(inside, partners, strict=True):
        pasted, present = set(partner[place].tolist()), set(partner.flatten().tolist()) - {255}
        assert len(pasted) == (len(present) + 1) // 2
        assert 255 not in pasted
        assert not set(partner[~place].tolist()) & pasted  # a class comes whole
    assert torch.equal(
        inside[1::2], classmix(classes[1::2], draws(8, rows=slice(1, None, 2)), 5)[:, 0]
    )
    blank = torch.full((2, 4, 4), 255)
    assert not classmix(blank, draws(2), 5).any()


def test_pixels_are_pasted_with_their_targets_at_any_size_of_image() -> None:
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 4, 4)
    masks = torch.arange(4).view(4, 1, 1).expand(4, 8, 8)
    inside = torch.zeros(4, 1, 8, 8, dtype=torch.bool)
    inside[:, :, :4] = True
    mixed, (found, maps) = paste_pixels(images, [masks, masks[:, None].repeat(1, 2, 1, 1)], inside)
    assert mixed[:, 0, :, 0].tolist() == [[2, 2, 0, 0], [3, 3, 1, 1], [0, 0, 2, 2], [1, 1, 3, 3]]
    assert torch.equal(found[:, ::2, ::2].float(), mixed[:, 0])
    assert torch.equal(maps[:, 0], found)
    assert torch.equal(maps[:, 1], found)
