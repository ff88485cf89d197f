"""The batches of a run: all rows in turn, images beside their targets, the same for any workers."""

from __future__ import annotations

import threading
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.train.batch import batch_rows, prefetched, step_batch
from pipeline.train.worker import Worker
from tests.tiny import (
    PLAIN,
    STRONG,
    labeled_batch,
    pseudo_labeled_batch,
    stripe_data,
    train_params,
)


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("kind", ["none", "weak", "strong"])
def test_workers_pieces_interleave_to_the_one_workers_batch(
    world_size: int, kind: Literal["none", "weak", "strong"]
) -> None:
    data = stripe_data(9, unlabeled=20)
    params = train_params(labeled_augment=kind, unlabeled_augment=kind)
    for step in range(4):
        for batch in (labeled_batch, pseudo_labeled_batch):
            images, targets, *_ = batch(data, params, STRONG, 3, step, Worker())
            for rank in range(world_size):
                worker = Worker(rank, world_size)
                piece, wanted, *_ = batch(data, params, STRONG, 3, step, worker)
                torch.testing.assert_close(piece, images[rank::world_size], rtol=0, atol=1e-6)
                assert torch.equal(wanted, targets[rank::world_size])


@pytest.mark.parametrize("online", [False, True])
def test_workers_second_views_interleave_too(online: bool) -> None:
    data, params = stripe_data(9, unlabeled=20), train_params(contrastive_weight=1.0)
    how = (data, params, STRONG, 3, 2)
    whole = step_batch(*how, Worker(), online=online).second
    assert whole is not None
    for rank in range(2):
        piece = step_batch(*how, Worker(rank, 2), online=online).second
        assert piece is not None
        torch.testing.assert_close(piece, whole[rank::2], rtol=0, atol=1e-6)


def test_batches_go_through_all_rows_and_pair_images_with_their_targets() -> None:
    data = stripe_data(9, unlabeled=24)
    assert data.unlabeled_images is not None
    assert data.unlabeled_targets is not None
    params = train_params(labeled_augment="none", unlabeled_augment="none")
    seen: list[Tensor] = []
    for step in range(2):  # 12 pseudo-labelled images each
        images, targets = pseudo_labeled_batch(data, params, PLAIN, 0, step, Worker())
        for image, target in zip(images, targets, strict=True):
            pixels = (data.unlabeled_images.float() / 255 - 0.3) / 0.25
            row = int((pixels - image).abs().amax(dim=(1, 2, 3)).argmin())
            torch.testing.assert_close(pixels[row], image)
            assert torch.equal(data.unlabeled_targets[row], target)
            seen.append(torch.tensor(row))
    assert sorted(int(row) for row in seen) == list(range(24))


def test_a_repeated_pseudo_label_is_seen_as_often_as_it_counts() -> None:
    rows = torch.tensor([0, 0, 0, 1, 2, 2])
    data = stripe_data(3, unlabeled=3, unlabeled_rows=rows, unlabeled_targets=torch.eye(3)[rows])
    params = train_params(batch_size=3, unlabeled_ratio=2)
    _, targets = pseudo_labeled_batch(data, params, PLAIN, 0, 0, Worker())
    assert targets.sum(dim=0).tolist() == [3, 1, 2]


SECONDS = 20


def test_everything_comes_in_order() -> None:
    assert list(prefetched(lambda key: key * key, range(5))) == [(k, k * k) for k in range(5)]
    assert list(prefetched(lambda key: key, [])) == []


def test_the_next_is_made_while_one_is_used_and_no_more() -> None:
    made: list[int] = []
    third = threading.Event()

    def make(key: int) -> int:
        made.append(key)
        if key == 2:
            third.set()
        return key

    pieces = prefetched(make, range(9))
    assert [next(pieces), next(pieces)] == [(0, 0), (1, 1)]
    assert third.wait(SECONDS)
    assert made == [0, 1, 2]
    pieces.close()


def test_an_error_comes_at_its_turn() -> None:
    def make(key: int) -> int:
        if key == 2:
            raise ValueError("the third")
        return key

    pieces = prefetched(make, range(9))
    assert [next(pieces)[0], next(pieces)[0]] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(pieces)


def test_its_thread_ends_with_it() -> None:
    before = threading.active_count()
    pieces = prefetched(lambda key: key, range(9))
    next(pieces)
    assert threading.active_count() == before + 1
    pieces.close()
    assert threading.active_count() == before


@settings(max_examples=100, deadline=None)
@given(count=st.integers(1, 60), batch_size=st.integers(1, 90), seed=st.integers(0, 2**31 - 1))
def test_each_row_comes_once_an_epoch(count: int, batch_size: int, seed: int) -> None:
    epochs = 3
    steps = -(-epochs * count // batch_size)
    stream = np.concatenate([batch_rows(step, batch_size, count, seed) for step in range(steps)])
    assert len(stream) == steps * batch_size
    for epoch in range(epochs):
        assert sorted(stream[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    first = batch_rows(1234, 16, 100, seed=5)
    for step in range(40):
        batch_rows(step, 16, 100, seed=6)
    assert (batch_rows(1234, 16, 100, seed=5) == first).all()
    assert (batch_rows(1234, 16, 100, seed=6) != first).any()


def test_epochs_are_shuffled_differently() -> None:
    epochs = [batch_rows(step, 50, 50, seed=0).tolist() for step in range(3)]
    assert list(range(50)) not in epochs
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize(("step", "batch_size", "count"), [(0, 4, 0), (0, 0, 4), (-1, 4, 4)])
def test_no_batch_of_nothing(step: int, batch_size: int, count: int) -> None:
    with pytest.raises(ValueError, match="no batch"):
        batch_rows(step, batch_size, count, seed=0)
