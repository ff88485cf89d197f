from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.preparation.splits import (
    UNLABELED,
    choose_budget,
    even_quota,
    stratified_share,
    unit_hash,
    unit_hashes,
)
from pipeline.errors import ParameterError


def digests(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 16), dtype=np.uint8)


def test_hashes_are_uniform_and_independent() -> None:
    one, two = (unit_hashes(digests(4000), 0, purpose) for purpose in ("test", "validation"))
    other_seed = unit_hashes(digests(4000), 1, "test")
    for hashes in (one, two, other_seed):
        assert 0 <= hashes.min() <= hashes.max() < 1
        assert np.abs(np.histogram(hashes, 10, (0, 1))[0] - 400).max() < 100
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.06
    assert abs(np.corrcoef(one, other_seed)[0, 1]) < 0.06
    assert unit_hash(digests(1)[0].tobytes(), 0, "test") == one[0]


def alone(labels: np.ndarray) -> np.ndarray:
    return np.full(len(labels), -1)


def test_of_each_class_its_share_of_the_lowest_ranks() -> None:
    labels = np.arange(400) % 5 - 1
    order = np.random.default_rng(0).permutation(400)
    taken = stratified_share(labels, alone(labels), order, 0.25)
    assert not taken[labels == UNLABELED].any()
    for label in range(4):
        rows = np.flatnonzero(labels == label)
        lowest = rows[np.argsort(order[rows])][:20]
        assert np.flatnonzero(taken & (labels == label)).tolist() == sorted(lowest.tolist())


@pytest.mark.parametrize(("fraction", "each"), [(0.0, 0), (0.2, 2), (0.25, 3), (0.99, 9)])
def test_a_share_is_rounded_and_never_all(fraction: float, each: int) -> None:
    labels = np.arange(20) % 2
    taken = stratified_share(labels, alone(labels), np.arange(20), fraction)
    assert np.bincount(labels[taken], minlength=2).tolist() == [each, each]


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 6)), min_size=1, max_size=60),
    fraction=st.floats(0, 0.99),
)
def test_groups_are_taken_whole_and_leave_every_class(
    rows: list[tuple[int, int]], fraction: float
) -> None:
    labels, groups = np.array(rows).T
    order = np.lexsort((np.arange(len(rows)), groups)).argsort()
    taken = stratified_share(labels, groups, order, fraction)
    for group in range(7):
        assert len(set(taken[(groups == group) & (labels >= 0)])) <= 1
    for label in set(labels[labels >= 0]):
        assert not taken[labels == label].all()


def test_groups_come_near_the_shares() -> None:
    generator = np.random.default_rng(0)
    groups = np.sort(generator.integers(0, 60, 600))
    labels = generator.integers(0, 3, 600)
    taken = stratified_share(labels, groups, np.arange(600), 0.2)
    assert np.abs(np.bincount(labels[taken]) / np.bincount(labels) - 0.2).max() < 0.06


@settings(max_examples=200, deadline=None)
@given(counts=st.lists(st.integers(0, 30), min_size=1, max_size=8), part=st.floats(0, 1))
def test_quota_is_as_even_as_counts_allow(counts: list[int], part: float) -> None:
    total = int(part * sum(counts))
    array = np.array(counts, np.int64)
    quota = even_quota(array, total, np.arange(len(counts), dtype=np.float64))
    assert quota.sum() == total
    assert (quota <= array).all()
    unfilled = quota[quota < array]
    assert quota.max() - unfilled.min(initial=quota.max()) <= 1


def test_left_over_goes_by_priority() -> None:
    quota = even_quota(np.array([9, 9, 9]), 8, np.array([0.5, 0.1, 0.3]))
    assert quota.tolist() == [2, 3, 3]


def budget(
    labels: np.ndarray, size: int, fraction: float, given_rows: tuple[int, ...] = ()
) -> tuple[np.ndarray, np.ndarray]:
    given_validation = np.zeros(len(labels), bool)
    given_validation[list(given_rows)] = True
    return choose_budget(
        labels,
        np.arange(len(labels))[::-1].copy(),
        given_validation,
        budget=size,
        num_classes=int(labels.max()) + 1,
        validation_fraction=fraction,
        priority=np.zeros(int(labels.max()) + 1),
    )


def test_budget_is_stratified_validation_included() -> None:
    labels = np.arange(1000) % 10
    training, validation = budget(labels, 100, 0.3)
    assert np.bincount(labels[training]).tolist() == [7] * 10
    assert np.bincount(labels[validation]).tolist() == [3] * 10
    assert not (training & validation).any()
    assert (training | validation)[-100:].all()


@pytest.mark.parametrize(
    ("size", "fraction", "per_class"), [(50, 0.0, 0), (50, 0.3, 2), (10, 0.9, 0), (20, 0.99, 1)]
)
def test_validation_of_a_budget_rounds_and_leaves_one(
    size: int, fraction: float, per_class: int
) -> None:
    labels = np.arange(500) % 10
    training, validation = budget(labels, size, fraction)
    assert np.bincount(labels[validation], minlength=10).tolist() == [per_class] * 10
    assert (training | validation).sum() == size


def test_given_validation_images_alone_validate_and_count() -> None:
    labels = np.arange(100) % 2
    training, validation = budget(labels, 20, 0.2, given_rows=(0, 1, 2, 3, 4, 5))
    assert np.flatnonzero(validation).tolist() == [2, 3, 4, 5]
    assert training.sum() == 16
    assert not training[:6].any()
    training, validation = budget(labels, 20, 0.0, given_rows=(0, 1, 2, 3))
    assert validation.sum() == 0
    assert training.sum() == 20


@pytest.mark.parametrize(("size", "message"), [(101, "only 100"), (9, "at least 10")])
def test_a_budget_that_cannot_be_met(size: int, message: str) -> None:
    with pytest.raises(ParameterError, match=rf"data\.labels = {size}: .*{message}"):
        budget(np.arange(100) % 10, size, 0.0)
