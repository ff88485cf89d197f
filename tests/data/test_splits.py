from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.splits import (
    UNLABELED,
    below_threshold,
    choose_budget,
    even_quota,
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


def test_threshold_takes_its_share_of_the_labelled() -> None:
    labels = np.arange(4000) % 5 - 1
    taken = below_threshold(unit_hashes(digests(4000), 0, "test"), labels, 0.25)
    assert not taken[labels == UNLABELED].any()
    assert abs(taken[labels >= 0].mean() - 0.25) < 0.03


def test_threshold_leaves_one_content_of_each_class() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    hashes = np.array([0.1, 0.4, 0.2, 0.3, 0.3, 0.1])
    assert below_threshold(hashes, labels, 0.9).tolist() == [True, False, True, False, False, True]


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
