"""The order of streamed data, against walking through it item by item."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.stream_order import LANES, StreamOrder, window_size_for

counts = st.lists(st.integers(0, 30), min_size=1, max_size=40).filter(any)
windows = st.sampled_from([LANES, 2 * LANES, 10 * LANES])


def order_of(counts: list[int], window: int, seed: int = 3) -> StreamOrder:
    return StreamOrder(np.array(counts), window, seed)


def batch(order: StreamOrder, step: int, size: int) -> list[int]:
    items = np.full(size, -1)
    for piece in order.batch(step, size):
        items[piece.batch] = order.items(piece.epoch, piece.window)[piece.places]
    return items.tolist()


@settings(deadline=None)
@given(counts, windows, st.integers(1, 50))
def test_every_item_comes_once_an_epoch(counts: list[int], window: int, size: int) -> None:
    order = order_of(counts, window)
    total = sum(counts)
    steps = -(-3 * total // size)
    items = [item for step in range(steps) for item in batch(order, step, size)]
    for epoch in range(3):
        assert sorted(items[epoch * total : (epoch + 1) * total]) == list(range(total))


@settings(deadline=None)
@given(counts, windows)
def test_the_batches_cut_one_row_whatever_their_size(counts: list[int], window: int) -> None:
    order = order_of(counts, window)
    one = [item for step in range(60) for item in batch(order, step, 1)]
    six = [item for step in range(10) for item in batch(order, step, 6)]
    assert one == six


@settings(deadline=None)
@given(counts, windows, st.sampled_from([1, 2, 3, 4, 8]), st.integers(1, 6))
def test_workers_share_the_batches_of_one(
    counts: list[int], window: int, world_size: int, times: int
) -> None:
    """What `share` says a worker takes of a window is what its parts of the batches hold."""
    order, size = order_of(counts, window), world_size * times
    total = sum(counts)
    taken: dict[tuple[int, int, int], list[int]] = {}
    for step in range(-(-2 * total // size)):
        for piece in order.batch(step, size):
            items = order.items(piece.epoch, piece.window)[piece.places]
            for place, item in zip(piece.batch.tolist(), items.tolist(), strict=True):
                key = (piece.epoch, piece.window, place % world_size)
                taken.setdefault(key, []).append(item)
    for (epoch, window_number, rank), items_taken in taken.items():
        if epoch < 2:
            share = order.share(epoch, window_number, rank, world_size)
            assert sorted(share.tolist()) == sorted(items_taken)


def test_epochs_and_seeds_differ() -> None:
    first = order_of([10] * 40, LANES)
    assert batch(first, 0, 100) == batch(order_of([10] * 40, LANES), 0, 100)
    assert batch(first, 0, 100) != batch(first, 4, 100)
    assert batch(first, 0, 100) != batch(order_of([10] * 40, LANES, seed=4), 0, 100)


@pytest.mark.parametrize("world_size", [2, 4, 16])
def test_a_worker_reads_its_own_part_of_the_blocks_and_little_else(world_size: int) -> None:
    order = order_of([64] * 1000, 64 * LANES * 8)
    touched = [
        len(np.unique(order.share(0, 0, rank, world_size) // 64)) for rank in range(world_size)
    ]
    assert sum(touched) <= 1.2 * 8 * LANES


def test_a_batch_is_of_many_blocks() -> None:
    order = order_of([64] * 1000, 64 * LANES)
    items = np.array(batch(order, 0, 64))
    assert len(np.unique(items // 64)) > 40


def test_windows_are_whole_lanes_and_never_none() -> None:
    assert [window_size_for(images) for images in (0, 63, 64, 200)] == [64, 64, 64, 192]
    order = order_of([5], LANES)
    with pytest.raises(ValueError, match="count=0"):
        next(order_of([0], LANES).batch(0, 4))
    assert order.after(0, 0) == (1, 0)
