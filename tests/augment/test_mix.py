"""MixUp and CutMix against loops written from their papers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from pipeline.augment.draws import Draws
from pipeline.augment.mix import blend, cutmix, cutmix_boxes, mix, mixup, paste
from tests.augment.images import draws, levels, most_apart, shares

Mix = Callable[[Tensor, Tensor, Draws], tuple[Tensor, Tensor]]


def _targets(count: int, classes: int = 5) -> Tensor:
    return torch.softmax(draws(count, 9).normal(classes), dim=1)


def test_mixup_equals_the_papers_loop() -> None:
    for images, allowed in ((shares(6), 1e-6), (levels(6), 1)):
        targets = _targets(6)
        mixed, mixed_targets = mixup(images, targets, draws(6), alpha=0.4)
        own = draws(6).beta(0.4)
        for n in range(6):
            other, share = (n + 3) % 6, float(own[n])
            slow = share * images[n].double() + (1 - share) * images[other].double()
            assert float((mixed[n] - slow).abs().max()) <= allowed
            slow_target = share * targets[n] + (1 - share) * targets[other]
            assert most_apart(mixed_targets[n], slow_target) < 1e-6
        assert mixed.dtype == images.dtype
        assert not torch.equal(mixed, images)


def test_cutmix_equals_the_papers_loop() -> None:
    images, targets = levels(6), _targets(6)
    height, width = images.shape[-2:]
    mixed, mixed_targets = cutmix(images, targets, draws(6), alpha=1.0)
    boxes = cutmix_boxes(draws(6), 1.0, height, width)
    for n in range(6):
        top, left, bottom, right = boxes[n].tolist()
        other = (n + 3) % 6
        slow, taken = images[n].clone(), 0
        for y in range(top, bottom):
            for x in range(left, right):
                slow[:, y, x] = images[other, :, y, x]
                taken += 1
        assert torch.equal(mixed[n], slow)
        share = 1 - taken / (height * width)
        slow_target = share * targets[n] + (1 - share) * targets[other]
        assert most_apart(mixed_targets[n], slow_target) < 1e-6
    assert not torch.equal(mixed, images)


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


def test_hard_labels_become_shares_that_sum_to_one() -> None:
    labels = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 3]), 4).float()
    for mixing in (mixup, cutmix):
        targets = mixing(levels(4), labels, draws(4))[1]
        assert torch.allclose(targets.sum(dim=1), torch.ones(4))
        assert not torch.equal(targets, labels)


@pytest.mark.parametrize("workers", [1, 2, 3, 6])
@pytest.mark.parametrize("mixing", [mixup, cutmix, partial(mix, kind="both")])
def test_workers_with_even_rows_together_do_what_one_does(mixing: Mix, workers: int) -> None:
    images, targets = levels(12), _targets(12)
    whole, whole_targets = mixing(images, targets, draws(12))
    for rank in range(workers):
        rows = slice(rank, None, workers)
        part, part_targets = mixing(images[rows], targets[rows], draws(12, rows=rows))
        assert torch.equal(part, whole[rows])
        assert torch.equal(part_targets, whole_targets[rows])


def test_one_image_is_its_own_partner() -> None:
    image, target = levels(1), _targets(1)
    for mixing in (mixup, cutmix):
        mixed, mixed_target = mixing(image, target, draws(1))
        assert torch.equal(mixed, image)
        assert torch.allclose(mixed_target, target)


def test_given_partners_mix_by_given_shares() -> None:
    black, white = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    images, targets = blend(black, first, white, second, torch.tensor([0.25]))
    assert torch.allclose(images, torch.tensor(0.75))
    assert torch.allclose(targets, torch.tensor([[0.25, 0.75]]))
    images, targets = paste(black, first, white, second, torch.tensor([[0, 0, 2, 4]]))
    assert images[0, 0].sum(dim=1).tolist() == [4, 4, 0, 0]
    assert torch.allclose(targets, torch.tensor([[0.5, 0.5]]))


def test_both_gives_each_image_one_of_the_two() -> None:
    count = 400
    images, targets = levels(2).repeat(count // 2, 1, 1, 1).float() / 255, _targets(count)
    both, both_targets = mix(images, targets, draws(count), kind="both", alpha=0.7)
    stream = draws(count)
    averaged = stream.uniform() < 0.5
    first = mixup(images, targets, stream, alpha=0.7)
    second = cutmix(images, targets, stream, alpha=0.7)
    for n in range(count):
        chosen = first if averaged[n] else second
        assert torch.equal(both[n], chosen[0][n])
        assert torch.equal(both_targets[n], chosen[1][n])
    assert 150 < int(averaged.sum()) < 250


def test_one_kind_is_its_function() -> None:
    images, targets = levels(6), _targets(6)
    for kind, function in (("mixup", mixup), ("cutmix", cutmix)):
        mixed = mix(images, targets, draws(6), kind=kind, alpha=0.5)  # type: ignore[arg-type]
        expected = function(images, targets, draws(6), alpha=0.5)
        assert torch.equal(mixed[0], expected[0])
        assert torch.equal(mixed[1], expected[1])
