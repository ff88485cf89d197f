from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.errors import DataError
from pipeline.models.head import LinearHead
from pipeline.train.head import (
    ALWAYS_TRAINS,
    DEFAULT_L2,
    FeatureBlock,
    choose_l2,
    fit_head,
    fit_labeled,
    fit_path,
    stratified_folds,
)

TIGHT = 1e-15


def digits(images: int, extra: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Digits' pixels (64 features, three of them constant), and `extra` random products of them."""
    pixels, labels = load_digits(return_X_y=True)
    pixels = pixels[:images]
    mixed = np.tanh(pixels @ np.random.default_rng(0).normal(0, 0.01, (64, extra)))
    return np.hstack([pixels, mixed]).astype(np.float32), labels[:images].astype(np.int64)


def one_hot(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.eye(10, dtype=np.float32)[labels]


def sklearn_log_probs(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    asked: NDArray[np.float32],
    l2: float,
    weights: NDArray[np.float64] | None = None,
    scaler: StandardScaler | None = None,
) -> NDArray[np.float64]:
    scaler = scaler or StandardScaler().fit(features.astype(np.float64))
    model = LogisticRegression(C=1 / l2, tol=1e-9, max_iter=20_000)
    model.fit(scaler.transform(features.astype(np.float64)), labels, weights)
    return np.asarray(model.predict_log_proba(scaler.transform(asked.astype(np.float64))))


@pytest.mark.parametrize("l2", [0.1, 10.0])
@pytest.mark.parametrize(("images", "extra"), [(300, 0), (80, 0), (60, 0), (90, 200)])
def test_hard_labels_give_scikit_learns_head(images: int, extra: int, l2: float) -> None:
    features, labels = digits(images, extra)
    asked = digits(500, extra)[0]
    head = fit_labeled(features, labels, 10, l2=l2)
    expected = sklearn_log_probs(features, labels, asked, l2)
    assert np.abs(np.exp(head.log_probs(asked)) - np.exp(expected)).max() < 5e-3
    tight = fit_head(
        lambda: [FeatureBlock(features, one_hot(labels), np.ones(images, np.float32))],
        64 + extra,
        10,
        l2=l2,
        tolerance=TIGHT,
    )
    assert np.allclose(tight.log_probs(asked), expected, atol=1e-3)


@pytest.mark.parametrize("images", [200, 50])
def test_weights_and_soft_targets_are_rows_repeated(images: int) -> None:
    features, _ = digits(images)
    generator = np.random.default_rng(1)
    targets = generator.dirichlet(np.ones(10), images).astype(np.float32)
    weights = generator.choice([0.0, 0.3, 1.0, 2.5], images).astype(np.float32)
    head = fit_head(
        lambda: [FeatureBlock(features, targets, weights)], 64, 10, l2=1.0, tolerance=TIGHT
    )
    used = np.flatnonzero(weights)
    expected = sklearn_log_probs(
        np.repeat(features[used], 10, axis=0),
        np.tile(np.arange(10), len(used)),
        features,
        1.0,
        (targets[used] * weights[used, None]).ravel().astype(np.float64),
        StandardScaler().fit(features[used].astype(np.float64)),
    )
    assert np.allclose(head.log_probs(features), expected, atol=3e-4)


def test_features_far_from_zero_and_constant_ones_do_no_harm() -> None:
    features, labels = digits(300)
    plain = fit_labeled(features, labels, 10, l2=1.0)
    moved = np.hstack([features * 4 + 512, np.full((300, 1), 0.1, np.float32)])
    head = fit_labeled(moved, labels, 10, l2=1.0)
    assert np.allclose(np.exp(head.log_probs(moved)), np.exp(plain.log_probs(features)), atol=1e-3)
    assert not head.weight[:, -1].any()


def test_the_order_of_rows_and_their_blocks_do_not_matter() -> None:
    features, labels = digits(200)
    whole = fit_labeled(features, labels, 10, l2=1.0)
    order = np.random.default_rng(0).permutation(200)
    parts = [
        FeatureBlock(features[rows], one_hot(labels[rows]), np.ones(len(rows), np.float32))
        for rows in np.array_split(order, [0, 1, 90])
    ]
    head = fit_head(lambda: parts, 64, 10, l2=1.0)
    assert np.allclose(head.log_probs(features), whole.log_probs(features), atol=2e-3)


def test_the_same_rows_give_the_same_bytes() -> None:
    features, labels = digits(150)
    first, second = (fit_labeled(features, labels, 10, l2=0.1) for _ in range(2))
    assert first.weight.tobytes() == second.weight.tobytes()
    assert first.bias.tobytes() == second.bias.tobytes()


def test_a_path_gives_the_head_of_each_l2() -> None:
    features, labels = digits(150)
    block = FeatureBlock(features, one_hot(labels), np.ones(150, np.float32))
    for head, l2 in zip(fit_path(lambda: [block], 64, 10, l2s=[100, 1]), [100, 1], strict=True):
        alone = fit_labeled(features, labels, 10, l2=l2)
        assert np.allclose(head.log_probs(features), alone.log_probs(features), atol=2e-2)


def test_blocks_are_gone_over_with_one_held_at_a_time() -> None:
    block_rows, num_features, num_blocks = 1500, 40, 8
    true = np.random.default_rng(9).normal(size=(num_features, 10)).argmax(axis=1)

    def block(seed: int) -> FeatureBlock:
        generator = np.random.default_rng(seed)
        features = generator.normal(size=(block_rows, num_features)).astype(np.float16)
        labels = true[np.abs(features).argmax(axis=1)]
        return FeatureBlock(features, one_hot(labels), np.ones(block_rows, np.float32))

    made: list[weakref.ref[FeatureBlock]] = []

    def generated() -> Iterator[FeatureBlock]:
        for seed in range(num_blocks):
            assert all(earlier() is None for earlier in made)
            part = block(seed)
            made.append(weakref.ref(part))
            yield part
            del part

    streamed = fit_path(generated, num_features, 10, l2s=[1.0], memory_limit=0)[0]
    passes = len(made) / num_blocks
    in_memory = fit_path(generated, num_features, 10, l2s=[1.0])[0]
    assert len(made) / num_blocks - passes == 2
    assert passes > 5
    assert np.allclose(streamed.weight, in_memory.weight, atol=1e-6)


def test_log_probs_of_float16_in_chunks_and_softened() -> None:
    generator = np.random.default_rng(0)
    head = LinearHead(
        generator.normal(size=(5, 7)).astype(np.float32),
        generator.normal(size=5).astype(np.float32),
    )
    features = generator.normal(size=(1500, 7)).astype(np.float16)
    logits = (features.astype(np.float64) @ head.weight.T.astype(np.float64) + head.bias) / 2.5
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    found = head.log_probs(features, temperature=2.5)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-5)
    assert head.log_probs(features[:0]).shape == (0, 5)


def test_a_class_without_images_comes_out_improbable() -> None:
    features, labels = digits(200)
    some = labels < 9
    head = fit_labeled(features[some], labels[some], 10, l2=1.0)
    assert np.isfinite(head.weight).all()
    assert np.exp(head.log_probs(features)[:, 9]).max() < 1e-3


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(wrong: float) -> None:
    features, labels = digits(100)
    head = fit_labeled(features, labels, 10, l2=1.0)
    features[7, 3] = wrong
    with pytest.raises(DataError, match="1 of 100 images are not finite, the first that of row 7"):
        fit_labeled(features, labels, 10, l2=1.0)
    with pytest.raises(DataError, match="not finite"):
        head.log_probs(features)


@pytest.mark.parametrize("labels", [np.full(20, 3), np.zeros(0, np.int64)])
def test_a_single_class_is_refused(labels: Any) -> None:
    with pytest.raises(DataError, match="two classes at least"):
        fit_labeled(np.ones((len(labels), 4), np.float32), labels, 10, l2=1.0)


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
