from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.train.sampling import batch_rows, epoch_of, rank_rows

counts = st.integers(1, 60)


@settings(max_examples=100, deadline=None)
@given(count=counts, batch_size=st.integers(1, 90), seed=st.integers(0, 2**31 - 1))
def test_each_row_comes_once_an_epoch(count: int, batch_size: int, seed: int) -> None:
    epochs = 3
    steps = -(-epochs * count // batch_size)
    stream = np.concatenate([batch_rows(step, batch_size, count, seed) for step in range(steps)])
    assert len(stream) == steps * batch_size
    for epoch in range(epochs):
        assert sorted(stream[epoch * count : (epoch + 1) * count]) == list(range(count))


@settings(max_examples=100, deadline=None)
@given(
    count=counts, batch_size=st.integers(1, 40), step=st.integers(0, 500), world=st.integers(1, 9)
)
def test_ranks_share_a_batch_without_loss(
    count: int, batch_size: int, step: int, world: int
) -> None:
    batch = batch_rows(step, batch_size, count, seed=3)
    parts = [rank_rows(batch, rank, world) for rank in range(world)]
    assert sorted(np.concatenate(parts)) == sorted(batch)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


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


def test_epoch_of_counts_passes() -> None:
    assert epoch_of(step=25, batch_size=4, count=50) == 2.0


@pytest.mark.parametrize(("step", "batch_size", "count"), [(0, 4, 0), (0, 0, 4), (-1, 4, 4)])
def test_no_batch_of_nothing(step: int, batch_size: int, count: int) -> None:
    with pytest.raises(ValueError, match="no batch"):
        batch_rows(step, batch_size, count, seed=0)
