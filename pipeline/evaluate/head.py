"""Measure a classifier on stored features: by a product of matrices, without torch."""

from __future__ import annotations

from pathlib import Path

from pipeline.data.features import body_of, load_features
from pipeline.data.shards import read_labels
from pipeline.errors import DataError
from pipeline.evaluate.metrics import Floats
from pipeline.evaluate.run import ModelResult, model_result
from pipeline.models.head import read_folds, read_head
from pipeline.models.spec import read_spec


def head_log_probs(model: Path, features: Path, images: Path) -> Floats:
    """The calibrated log-probabilities (N, K) of the images of a folder, from their features.

    Raises DataError where these are of another body than the model's.
    """
    spec = read_spec(model)
    if body_of(features) != spec.body:
        raise DataError(f"{features}: not of the body that {model} reads; run dvc repro")
    return read_head(model).log_probs(load_features(features, images), spec.temperature)


def measure_head(model: Path, prepared: Path, features: Path, *, interval: float) -> ModelResult:
    """Measure the head in the folder `model` on the test images of `prepared`.

    features: the folder of the parts' features. In place of validation images come the labelled
    ones, out of fold, where it was cross-validated. Raises DataError without test images.
    """

    def log_probs(part: str) -> Floats:
        return head_log_probs(model, features / part, prepared / part)

    test = log_probs("test")
    if not len(test):
        raise DataError(f"{prepared / 'test'}: no test images; raise data.test_fraction")
    folds = read_folds(model)
    if folds is None:
        checked, labels = log_probs("validation"), read_labels(prepared / "validation")
    else:
        labels = read_labels(prepared / "labeled")[folds.held_out]
        checked = folds.log_probs[folds.held_out]
    return model_result(
        test,
        test,
        read_labels(prepared / "test"),
        checked,
        labels,
        interval=interval,
    )
