"""The baseline on stored features: logistic regression on the labels, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.features import load_features
from pipeline.data.shards import read_labels
from pipeline.evaluate.baseline import Baseline, absent, measured
from pipeline.tasks.metrics import correct
from pipeline.train.head import choose_l2, fit_labeled

NAME = "logistic regression on features"


def feature_baseline(
    prepared: Path, features: Path, num_classes: int, *, seed: int, interval: float = 0.95
) -> Baseline:
    """Test accuracy of a logistic regression on stored features, validation images as labels too.

    `prepared`, `features`: the folders that hold labeled/, validation/ and test/. Its l2 is chosen
    by cross-validation on the labels; unlabelled images have no part in it. `interval`: coverage of
    that of the accuracy. Raises DataError for features that are not of these images.
    """
    known, labels = _read(prepared, features, ("labeled", "validation"))
    test, test_labels = _read(prepared, features, ("test",))
    if not len(test):
        return absent(NAME, "no test images")
    if len(np.unique(labels)) < 2:
        return absent(NAME, "needs labels of two classes")
    l2 = choose_l2(known, labels, num_classes, seed=seed).l2
    head = fit_labeled(known, labels, num_classes, l2=l2)
    return measured(NAME, correct(head.log_probs(test), test_labels), "", interval=interval)


def _read(
    prepared: Path, features: Path, parts: Sequence[str]
) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Features (N, F) and labels (N,) of these parts, one after the other."""
    return (
        np.concatenate([load_features(features / part, prepared / part) for part in parts]),
        np.concatenate([read_labels(prepared / part) for part in parts]),
    )
