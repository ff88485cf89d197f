"""Batches that are mixed: which images, which targets, and that a network learns from them."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch

from pipeline.augment import Draws, mix
from pipeline.errors import ParameterError
from pipeline.params import AugmentParams
from pipeline.train.fit import fit
from pipeline.train.losses import labeled_loss
from pipeline.train.worker import Worker
from tests.tiny import (
    accuracy,
    labeled_batch,
    pseudo_labeled_batch,
    stripe_data,
    tiny_network,
    train_params,
)

KINDS: tuple[Literal["mixup", "cutmix", "both"], ...] = ("mixup", "cutmix", "both")
Batch = Any


def mixing(kind: str, **changes: Any) -> AugmentParams:
    values: dict[str, Any] = {"shift": 0.0, "num_ops": 0, "mix": kind}
    return AugmentParams(**(values | changes))


@pytest.mark.parametrize("batch", [labeled_batch, pseudo_labeled_batch])
@pytest.mark.parametrize("kind", KINDS)
def test_images_and_targets_are_mixed_alike(batch: Batch, kind: Any) -> None:
    # Each image has its class as its grey level: a mixed image's mean says what its target is.
    labels = torch.arange(24) % 3
    grey = (labels * 100).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).to(torch.uint8).contiguous()
    flat: dict[str, Any] = {"images": grey, "unlabeled_images": grey, "mean": (0.0,)}
    data = stripe_data(24, unlabeled=24, std=(1.0,), **flat)
    images, targets, *_ = batch(data, train_params(), mixing(kind), 0, 0, Worker())
    assert targets.shape == (len(images), 3)
    assert torch.allclose(targets.sum(dim=1), torch.ones(len(images)))
    expected = (targets * torch.tensor([0.0, 100, 200])).sum(dim=1) / 255
    torch.testing.assert_close(images.mean(dim=(1, 2, 3)), expected, atol=1e-5, rtol=0)
    assert int((targets.max(dim=1).values < 0.99).sum()) > 0


def test_the_view_comes_first_and_the_same_draws_go_on() -> None:
    data, params = stripe_data(9), train_params(labeled_augment="weak")
    plain, labels, _ = labeled_batch(data, params, mixing("none", shift=0.2), 0, 3, Worker())
    mixed, targets, _ = labeled_batch(data, params, mixing("cutmix", shift=0.2), 0, 3, Worker())
    one_hot = torch.eye(3)[labels]
    assert not torch.equal(mixed, plain)
    pasted = [(mixed[n] == plain[n]) | (mixed[n] == plain[(n + 3) % 6]) for n in range(6)]
    assert torch.stack(pasted).all()
    own = (targets * one_hot).sum(dim=1)
    assert (own > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_workers_pieces_interleave_to_the_one_workers_batch(kind: str) -> None:
    data, params = stripe_data(9, unlabeled=20), train_params(batch_size=12)
    for batch in (labeled_batch, pseudo_labeled_batch):
        images, targets, *_ = batch(data, params, mixing(kind), 3, 1, Worker())
        for world_size in (2, 3):
            for rank in range(world_size):
                worker = Worker(rank, world_size)
                piece, wanted, *_ = batch(data, params, mixing(kind), 3, 1, worker)
                torch.testing.assert_close(piece, images[rank::world_size], rtol=0, atol=1e-6)
                torch.testing.assert_close(wanted, targets[rank::world_size])


def test_an_unchanged_view_is_not_mixed() -> None:
    data = stripe_data(9, unlabeled=20)
    params = train_params(labeled_augment="none", unlabeled_augment="none")
    for batch in (labeled_batch, pseudo_labeled_batch):
        images, targets, *_ = batch(data, params, mixing("both"), 0, 0, Worker())
        plain, *_ = batch(data, params, mixing("none"), 0, 0, Worker())
        assert torch.equal(images, plain)
        assert set(targets.flatten().tolist()) == {0.0, 1.0}


def test_an_odd_number_of_images_is_refused() -> None:
    data = stripe_data(9)
    with pytest.raises(ParameterError, match=r"train\.batch_size = 6: augment\.mix = mixup pairs"):
        labeled_batch(data, train_params(), mixing("mixup"), 0, 0, Worker(0, 2))


def test_classes_without_a_label_have_a_column() -> None:
    data = stripe_data(2, num_classes=5)
    _, targets, _ = labeled_batch(data, train_params(), mixing("mixup"), 0, 0, Worker())
    assert targets.shape[1] == 5
    _, targets, _ = labeled_batch(stripe_data(2), train_params(), mixing("mixup"), 0, 0, Worker())
    assert targets.shape[1] == 2


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_mixed_labels_is_the_mixed_loss(smoothing: float) -> None:
    draws = Draws(0, 6)
    logits, labels = draws.normal(4), draws.integers(4)
    pixels, one_hot = torch.zeros(6, 1, 2, 2), torch.eye(4)[labels]
    _, targets = mix(pixels, one_hot, draws, kind="mixup", alpha=1.0)
    losses = []
    for n in range(6):
        other = (n + 3) % 6
        share = float(targets[n, labels[n]]) if labels[n] != labels[other] else 1.0
        both = [
            labeled_loss(logits[n : n + 1], labels[k : k + 1], label_smoothing=smoothing)
            for k in (n, other)
        ]
        losses.append(share * both[0] + (1 - share) * both[1])
    mixed = labeled_loss(logits, targets, label_smoothing=smoothing)
    torch.testing.assert_close(mixed, torch.stack(losses).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_stripes_are_learned_from_mixed_images(kind: str) -> None:
    data, network = stripe_data(45), tiny_network()
    params = train_params(steps=60, batch_size=12, learning_rate=0.03, label_smoothing=0.1)
    augment = mixing(kind, mix_alpha=0.4, erasing=0.2, crop="resized", crop_area=(0.8, 1.0))
    weights = fit(network, data, train=params, augment=augment, seed=0)
    assert accuracy(network, weights, data) >= 0.9
