from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.errors import DataError
from pipeline.train.head_choice import (
    ALWAYS_TRAINS,
    DEFAULT_L2,
    choose_l2,
    stratified_folds,
)
from tests.train.test_head import digits


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=80), st.integers(2, 6), st.integers(0, 1000)
)
def test_folds_are_stratified(values: list[int], folds: int, seed: int) -> None:
    labels = np.array(values)
    fold = stratified_folds(labels, folds, seed)
    assert (fold == stratified_folds(labels, folds, seed)).all()
    counts = np.bincount(labels)
    assert ((fold == ALWAYS_TRAINS) == (counts[labels] == 1)).all()
    assert fold.max() < folds
    held_out = fold[fold != ALWAYS_TRAINS]
    if len(held_out):
        sizes = np.bincount(held_out)
        assert len(sizes) >= 2
        assert np.ptp(sizes) <= 1
    for number in range(fold.max() + 1):
        assert set(labels[fold != number]) == set(values)
    for label in np.flatnonzero(counts > 1):
        assert np.ptp(np.bincount(fold[labels == label], minlength=fold.max() + 1)) <= 1


def test_another_seed_deals_otherwise() -> None:
    labels = np.repeat(np.arange(4), 10)
    assert (stratified_folds(labels, 5, 0) != stratified_folds(labels, 5, 1)).any()


@pytest.mark.parametrize(
    ("counts", "expected"), [([3, 3, 3], 3), ([2, 9, 9], 5), ([1, 1, 9], 5), ([2, 2, 2], 2)]
)
def test_no_more_folds_than_the_median_class_has_images(counts: list[int], expected: int) -> None:
    fold = stratified_folds(np.repeat(np.arange(3), counts), 5, 0)
    assert fold.max() + 1 == expected


@pytest.mark.parametrize("images", [60, 150])
def test_the_choice_is_that_of_an_obvious_loop(images: int) -> None:
    features, labels = digits(images)
    candidates = [0.1, 1.0, 10.0, 100.0]
    choice = choose_l2(features, labels, 10, seed=3, folds=3, candidates=candidates)
    fold = stratified_folds(labels, 3, 3)
    for l2 in candidates:
        losses = []
        for number in range(3):
            inside = fold != number
            model = make_pipeline(
                StandardScaler(), LogisticRegression(C=1 / l2, tol=1e-7, max_iter=5000)
            ).fit(features[inside].astype(np.float64), labels[inside])
            said = model.predict_log_proba(features[~inside].astype(np.float64))
            losses += list(-said[np.arange(len(said)), labels[~inside]])
        assert choice.scores[l2] == pytest.approx(np.mean(losses), abs=2e-3)
    assert choice.l2 == min(choice.scores, key=choice.scores.__getitem__)


def test_ties_go_to_the_larger_l2() -> None:
    features = np.zeros((20, 3), np.float32)
    choice = choose_l2(features, np.tile([0, 1], 10), 2, seed=0, candidates=[1.0, 100.0, 10.0])
    assert choice.l2 == 100.0
    assert list(choice.scores) == [1.0, 10.0, 100.0]


def test_one_image_a_class_leaves_nothing_to_choose_by() -> None:
    features, labels = digits(10)
    assert sorted(labels) == list(range(10))
    choice = choose_l2(features, labels, 10, seed=0)
    assert (choice.l2, choice.scores) == (DEFAULT_L2, {})


def test_mistakes_are_refused() -> None:
    features, labels = digits(40)
    with pytest.raises(DataError, match="two classes at least"):
        choose_l2(features, np.zeros(40, np.int64), 10, seed=0)
    features[3, 3] = np.nan
    with pytest.raises(DataError, match="not finite"):
        choose_l2(features, labels, 10, seed=0)
