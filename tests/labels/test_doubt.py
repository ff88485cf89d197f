import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.labels.doubt import (
    class_pairs,
    disagreement,
    diverse,
    doubt,
    image_doubts,
    margins,
    narrowed,
)

Floats = NDArray[np.float32]


def probabilities(rows: int, classes: int, seed: int) -> Floats:
    values = np.random.default_rng(seed).dirichlet(np.full(classes, 0.4), rows)
    return values.astype(np.float32)


def slow_divergence(members: list[list[float]]) -> float:
    """Mean Kullback-Leibler divergence of each from their mean, over its largest value."""
    mean = [sum(values) / len(members) for values in zip(*members, strict=True)]
    parts = [
        sum(p * math.log(p / m) for p, m in zip(member, mean, strict=True) if p > 0)
        for member in members
    ]
    return sum(parts) / len(parts) / math.log(min(len(members), len(mean)))


def slow_diverse(scores: list[float], groups: list[int], count: int, again: float) -> list[int]:
    """One after the other, every remaining row looked at each time."""
    chosen: list[int] = []
    while len(chosen) < min(count, len(scores)):
        left = [row for row in range(len(scores)) if row not in chosen]

        def value(row: int) -> float:
            return scores[row] * again ** sum(groups[other] == groups[row] for other in chosen)

        chosen.append(max(left, key=lambda row: (value(row), -row)))
    return chosen


def test_margins_are_the_two_largest_apart() -> None:
    values = probabilities(50, 5, 0)
    expected = [sorted(row)[-1] - sorted(row)[-2] for row in values.tolist()]
    assert margins(values).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("models", "classes"), [(2, 2), (2, 7), (3, 4), (5, 3)])
def test_disagreement_is_the_divergence_from_the_mean(models: int, classes: int) -> None:
    members = [probabilities(30, classes, seed) for seed in range(models)]
    got = disagreement(members)
    for row in range(30):
        expected = slow_divergence([member[row].tolist() for member in members])
        assert got[row] == pytest.approx(expected, abs=1e-5)


def test_disagreement_reaches_from_none_to_all() -> None:
    sure = np.eye(4, dtype=np.float32)
    assert disagreement([sure, sure]).tolist() == [0.0] * 4
    assert disagreement([sure, sure[::-1]]).tolist() == pytest.approx([1.0] * 4, abs=1e-6)
    assert disagreement([sure]).tolist() == [0.0] * 4


def test_doubt_grows_with_a_small_margin_and_with_disagreement() -> None:
    first = np.array([[0.9, 0.1], [0.6, 0.4], [0.9, 0.1]], np.float32)
    second = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]], np.float32)
    scores = doubt([first, second])
    assert scores[0] == pytest.approx(0.2)
    assert scores[0] < scores[1] < scores[2]


def test_pairs_number_the_two_likeliest_classes_in_either_order() -> None:
    values = np.array([[0.1, 0.5, 0.4], [0.2, 0.3, 0.5], [0.6, 0.1, 0.3]], np.float32)
    assert class_pairs(values).tolist() == [1 * 3 + 2, 1 * 3 + 2, 0 * 3 + 2]


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 4)), max_size=30),
    count=st.integers(0, 35),
    again=st.sampled_from([0.5, 1.0]),
)
def test_the_queue_is_that_of_looking_at_every_row_each_time(
    rows: list[tuple[int, int]], count: int, again: float
) -> None:
    scores = [value / 16 for value, _ in rows]  # exact in binary, halves too
    groups = [group for _, group in rows]
    got = diverse(np.array(scores, np.float32), np.array(groups, np.int64), count, again)
    assert got == slow_diverse(scores, groups, count, again)


def test_many_alike_do_not_fill_the_queue() -> None:
    scores = np.array([1.0] * 50 + [0.6] * 5, np.float32)
    groups = np.array([0] * 50 + [1] * 5, np.int64)
    chosen = diverse(scores, groups, 12)
    assert sum(row >= 50 for row in chosen) >= 3
    assert chosen[0] == 0


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=30),
    st.lists(st.integers(0, 30), max_size=4),
    st.integers(0, 6),
    st.sampled_from([0.9, 1.0, 0.5]),
)
def test_the_best_of_parts_are_the_best_of_all(
    rows: list[tuple[int, int]], cuts: list[int], count: int, again: float
) -> None:
    scores = np.array([score / 4 for score, _ in rows], np.float32)
    groups = np.array([group for _, group in rows], np.int64)
    columns = np.arange(len(rows)), scores, groups
    parts = zip(*(np.split(column, sorted(cuts)) for column in columns), strict=True)
    known = narrowed(parts, lambda each: diverse(each[1], each[2], count, again))
    order = diverse(known[1], known[2], count, again)
    assert known[0][order].tolist() == diverse(scores, groups, count, again)


def test_of_an_image_of_many_units_the_mean_doubt_counts_and_its_commonest_pair() -> None:
    members = [probabilities(6 * 40, 4, seed).reshape(6, 40, 4) for seed in (1, 2)]
    for member in members:
        member[:, 30:] = 0  # counts in nothing
        member[5] = 0
    doubts, pairs = image_doubts(members)
    for image in range(5):
        parts = [member[image, :30] for member in members]
        own, found = doubt(parts), class_pairs(np.mean(parts, axis=0))
        np.testing.assert_allclose(doubts[image], own.mean(), rtol=1e-5)
        weights = {pair: own[found == pair].sum() for pair in set(found.tolist())}
        assert pairs[image] == max(weights, key=lambda pair: weights[pair])
    assert doubts[5] == 0


def test_an_image_of_one_unit_has_the_doubt_of_that() -> None:
    members = [probabilities(20, 3, seed) for seed in (1, 2)]
    doubts, pairs = image_doubts([member[:, None] for member in members])
    np.testing.assert_array_equal(doubts, doubt(members))
    np.testing.assert_array_equal(pairs, class_pairs(np.mean(members, axis=0)))
