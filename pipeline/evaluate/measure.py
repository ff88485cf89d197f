"""Measure a model on the prepared images: a head from stored features, a network by its passes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.data.features import body_of, load_features
from pipeline.data.shards import read_labels
from pipeline.errors import DataError
from pipeline.evaluate.metrics import Floats
from pipeline.evaluate.run import ModelResult, measure, model_result
from pipeline.models.head import read_folds, read_head
from pipeline.models.spec import read_spec
from pipeline.progress import Advance

if TYPE_CHECKING:
    from pipeline.data.sliced import LabeledImages


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


def measure_network(
    model: Path,
    prepared: Path,
    *,
    views: str,
    jitter_views: int,
    batch_size: int,
    threads: int,
    device: str,
    knn: int | None,
    robustness_images: int | None,
    interval: float,
    seed: int,
    advance: Advance,
) -> ModelResult:
    """Measure the network in the folder `model`; the other arguments are those of `evaluate`."""
    import torch  # heads are measured without

    from pipeline.evaluate.checkpoints import checkpoint_log_probs
    from pipeline.evaluate.knn import network_knn_accuracy
    from pipeline.models.checkpoint import load_checkpoint
    from pipeline.models.passes import resolve_device

    torch.set_num_threads(threads)
    checkpoint, place = load_checkpoint(model), resolve_device(device)
    checkpoint.network.to(place)

    def predict(images: LabeledImages, view: str) -> Floats:
        return checkpoint_log_probs(
            checkpoint,
            images.images,
            view=view,
            jitter_views=jitter_views,
            batch_size=batch_size,
            seed=seed,
            device=str(place),
            advance=advance,
        )

    nearest = knn and partial(
        network_knn_accuracy,
        checkpoint.network,
        mean=checkpoint.spec.mean,
        std=checkpoint.spec.std,
        neighbors=knn,
        batch_size=batch_size,
    )
    return measure(
        predict,
        prepared,
        view=views,
        nearest=nearest or None,
        robustness_images=robustness_images,
        threads=threads,
        interval=interval,
        seed=seed,
    )
