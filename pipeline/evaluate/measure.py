"""Measure a model on the prepared images: a head from stored features, a network by its passes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.data.features import body_of, load_features
from pipeline.data.shards import iter_shards, read_manifest
from pipeline.errors import DataError
from pipeline.evaluate.champion import FEW
from pipeline.evaluate.choose_views import MOST_IMAGES, TRIED, choose_views
from pipeline.evaluate.result import ModelResult, model_result
from pipeline.models.head import read_folds, read_head, reads_features
from pipeline.models.spec import read_spec
from pipeline.params import EvaluateParams
from pipeline.params.predict import Views
from pipeline.progress import Advance, progress
from pipeline.tasks import Task
from pipeline.tasks.metrics import Floats
from pipeline.tasks.task import Array

if TYPE_CHECKING:
    from pipeline.data.tensors import Images
    from pipeline.models.checkpoint import Checkpoint


def read_targets(folder: Path, task: Task, side: int) -> Array:
    """The targets (N, …) of a folder of images of this side, unknown where there is none."""
    name = task.target.name
    none = pa.chunked_array([], task.target.type)
    parts = [task.load(table.column(name), side) for table in iter_shards(folder, [name])]
    return np.concatenate([task.load(none, side), *parts])


def head_log_probs(model: Path, features: Path, images: Path) -> Floats:
    """The calibrated log-probabilities (N, K) of the images of a folder, from their features.

    Raises DataError where these are of another body than the model's.
    """
    spec = read_spec(model)
    if body_of(features) != spec.body:
        raise DataError(f"{features}: not of the body that {model} reads; selftrain run")
    return read_head(model).log_probs(load_features(features, images), spec.temperature)


def measure_model(
    model: Path,
    prepared: Path,
    features: Path,
    params: EvaluateParams,
    task: Task,
    *,
    views: Views,
    seed: int,
    advance: Advance,
) -> ModelResult:
    """Measure the model in the folder `model`, a head from stored features where those will do.

    features: the folder of the parts' features; else as measure_network.
    """
    plain = views == "centre" and params.robustness_images is None
    if plain and reads_features(read_spec(model)):
        return measure_head(model, prepared, features, task, interval=params.interval)
    return measure_network(model, prepared, params, task, views=views, seed=seed, advance=advance)


def measure_head(
    model: Path, prepared: Path, features: Path, task: Task, *, interval: float
) -> ModelResult:
    """Measure the head in the folder `model` on the test images of `prepared`.

    features: the folder of the parts' features. In place of validation images come the labelled
    ones, out of fold, where it was cross-validated. Raises DataError without test images.
    """
    _check_test_images(prepared)
    spec, folds = read_spec(model), read_folds(model)
    test = head_log_probs(model, features / "test", prepared / "test")

    def targets(part: str) -> Array:
        return read_targets(prepared / part, task, spec.image_size)

    if folds is None:
        validation_log_probs = head_log_probs(
            model, features / "validation", prepared / "validation"
        )
        known = targets("validation")
    else:
        known = targets("labeled")[folds.held_out]
        validation_log_probs = folds.log_probs[folds.held_out]
    return model_result(
        task,
        test,
        test,
        targets("test"),
        validation_log_probs,
        known,
        len(spec.classes),
        interval=interval,
    )


def best_views(
    model: Path, prepared: Path, params: EvaluateParams, task: Task, *, seed: int, title: str
) -> Views:
    """Those test-time views that pay on the validation images of `prepared`, or MOST_IMAGES of
    them; the centre view where there are under FEW, which are no ground for a difference.

    title: the stage's, for its progress.
    """
    count = read_manifest(prepared / "validation").rows
    if count < FEW:
        return "centre"
    import torch

    from pipeline.data.sliced import ShardSlices
    from pipeline.data.tensors import decoding_pool
    from pipeline.evaluate.checkpoints import checkpoint_predictions
    from pipeline.evaluate.robustness import sampled_rows

    rows = sampled_rows(count, MOST_IMAGES, seed)
    checkpoint = _loaded(model, params)
    targets = read_targets(prepared / "validation", task, checkpoint.spec.image_size)[rows]
    with decoding_pool(params.threads) as pool:
        images = ShardSlices(prepared / "validation", pool)
        some = torch.cat([images[row : row + 1] for row in rows])
    losses: dict[Views, Floats] = {}
    with progress(f"{title}: views", len(TRIED) * len(rows)) as advance:
        for views in TRIED:
            how = params.view_params(views)
            predicted = checkpoint_predictions(checkpoint, some, how, seed=seed, advance=advance)
            losses[views] = task.losses(predicted, targets, len(checkpoint.spec.classes))
    return choose_views(losses)


def measure_network(
    model: Path,
    prepared: Path,
    params: EvaluateParams,
    task: Task,
    *,
    views: Views,
    seed: int,
    advance: Advance,
) -> ModelResult:
    """Measure the network in the folder `model` on the test images of `prepared`, in these views
    and from the centre, and on the validation images from the centre, as training and the guard do.

    Images are read shard by shard. Raises DataError without test images.
    """
    import torch  # heads are measured without

    from pipeline.data.sliced import ShardSlices
    from pipeline.data.tensors import decoding_pool
    from pipeline.evaluate.checkpoints import checkpoint_predictions
    from pipeline.evaluate.robustness import measure_robustness, sampled_rows

    _check_test_images(prepared)
    checkpoint = _loaded(model, params)

    def predicted(images: Images, views: Views = "centre") -> Array:
        how = params.view_params(views)
        return checkpoint_predictions(checkpoint, images, how, seed=seed, advance=advance)

    with decoding_pool(params.threads) as pool:
        test, validation = (ShardSlices(prepared / part, pool) for part in ("test", "validation"))
        of_test, of_validation = predicted(test, views), predicted(validation)
        centre = of_test if views == "centre" else predicted(test)
        targets, known = (
            read_targets(prepared / part, task, checkpoint.spec.image_size)
            for part in ("test", "validation")
        )
        robustness = None
        if _tests_corruptions(params, task):
            rows = sampled_rows(len(test), params.robustness_images or 0, seed)
            some = torch.cat([test[row : row + 1] for row in rows])
            robustness = measure_robustness(predicted, some, targets[rows], seed=seed)
    return model_result(
        task,
        of_test,
        centre,
        targets,
        of_validation.reshape(len(of_validation), *of_test.shape[1:]),
        known,
        len(checkpoint.spec.classes),
        views=views,
        interval=params.interval,
        robustness=robustness,
    )


def _loaded(model: Path, params: EvaluateParams) -> Checkpoint:
    """The network in the folder `model`, on the device and threads of `params`."""
    import torch

    from pipeline.models.checkpoint import load_checkpoint
    from pipeline.models.passes import resolve_device

    torch.set_num_threads(params.threads)
    checkpoint = load_checkpoint(model)
    checkpoint.network.to(resolve_device(params.device))
    return checkpoint


def images_predicted(
    model: Path, prepared: Path, params: EvaluateParams, task: Task, views: Views
) -> int:
    """How many images measure_network predicts, an image each time that it does."""
    test, validation = (read_manifest(prepared / part).rows for part in ("test", "validation"))
    count = test * (1 if views == "centre" else 2) + validation
    if not _tests_corruptions(params, task):  # to count corruptions is to import torch
        return count
    from pipeline.evaluate.robustness import passes_an_image

    passes = passes_an_image(read_spec(model).channels)
    return count + min(test, params.robustness_images or 0) * passes


def _tests_corruptions(params: EvaluateParams, task: Task) -> bool:
    return params.robustness_images is not None and task.image_classes


def _check_test_images(prepared: Path) -> None:
    if not read_manifest(prepared / "test").rows:
        raise DataError(f"{prepared / 'test'}: no test images; raise data.test_fraction")
