"""Heads from stored features: cross-validated without a look at what they are judged on."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.labels.teaching import Teaching, targets_of_teacher
from pipeline.models.head import Folds, LinearHead
from pipeline.params import PropagationParams
from pipeline.self_training.heads import Labeled, Pool, cross_validate
from pipeline.train.head import FeatureBlock, fit_head, fit_labeled

L2 = 10.0
TEACHING = Teaching(PropagationParams(num_neighbors=5), "labeled", "hard")


def clouds(each: int, seed: int) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Features (3 · each, 8) around three centres, and the centre of each."""
    generator = np.random.default_rng(seed)
    labels = np.arange(3 * each) % 3
    centres = np.random.default_rng(0).normal(size=(3, 8))
    features = centres[labels] + generator.normal(0, 0.8, (len(labels), 8))
    return features.astype(np.float16), labels


@pytest.fixture
def labeled() -> Labeled:
    features, labels = clouds(4, seed=1)
    return Labeled(features, labels, 3)


@pytest.fixture
def pool() -> Pool:
    features, _ = clouds(30, seed=2)
    return Pool(features, np.ones(len(features), np.float32), TEACHING)


def first(labeled: Labeled) -> Folds:
    folds = cross_validate(labeled, None, None, l2=L2, weight=1.0, num_folds=4, seed=0)
    assert folds is not None
    return folds


def test_each_label_is_judged_by_a_head_of_the_others(labeled: Labeled) -> None:
    folds = first(labeled)
    assert folds.held_out.all()
    for number, head in enumerate(folds.heads):
        held = folds.fold == number
        alone = fit_labeled(labeled.features[~held], labeled.labels[~held], 3, l2=L2)
        np.testing.assert_array_equal(head.weight, alone.weight)
        expected = alone.log_probs(labeled.features[held])
        np.testing.assert_array_equal(folds.log_probs[held], expected)


def test_a_student_s_folds_are_taught_by_the_teacher_s_head_of_the_same_fold(
    labeled: Labeled, pool: Pool
) -> None:
    teacher = first(labeled)
    folds = cross_validate(labeled, pool, teacher, l2=L2, weight=0.5, num_folds=4, seed=0)
    assert folds is not None
    np.testing.assert_array_equal(folds.fold, teacher.fold)
    held = folds.fold == 2
    known = Labeled(labeled.features[~held], labeled.labels[~held], 3)
    targets = targets_of_teacher(
        teacher.heads[2].log_probs(pool.features),
        TEACHING,
        features=pool.features,
        labeled_features=known.features,
        labels=known.labels,
    )
    blocks = [known.block, FeatureBlock(pool.features, targets, 0.5 * pool.repeats)]
    expected = fit_head(lambda: blocks, 8, 3, l2=L2)
    np.testing.assert_array_equal(folds.heads[2].weight, expected.weight)


def test_another_label_of_an_image_changes_nothing_that_judges_it(
    labeled: Labeled, pool: Pool
) -> None:
    judged = []
    for change in (0, 1):
        labels = labeled.labels.copy()
        fold = first(labeled).fold
        image = int(np.flatnonzero(fold == 0)[0])
        labels[image] = (labels[image] + change) % 3
        heads = tuple(
            fit_labeled(labeled.features[fold != number], labels[fold != number], 3, l2=L2)
            for number in range(int(fold.max()) + 1)
        )
        teacher = Folds(heads, fold, np.zeros((len(fold), 3), np.float32))
        changed = Labeled(labeled.features, labels, 3)
        folds = cross_validate(changed, pool, teacher, l2=L2, weight=1.0, num_folds=4, seed=0)
        assert folds is not None
        judged.append(folds.log_probs[image])
    np.testing.assert_array_equal(judged[0], judged[1])


def test_nothing_judges_a_student_of_a_teacher_without_folds(labeled: Labeled, pool: Pool) -> None:
    assert cross_validate(labeled, pool, None, l2=L2, weight=1.0, num_folds=4, seed=0) is None


def test_a_head_that_is_never_judged_is_of_classes_with_one_image() -> None:
    features, labels = clouds(1, seed=3)
    alone = Labeled(features, labels, 3)
    assert cross_validate(alone, None, None, l2=L2, weight=1.0, num_folds=4, seed=0) is None
    assert isinstance(fit_labeled(features, labels, 3, l2=L2), LinearHead)
