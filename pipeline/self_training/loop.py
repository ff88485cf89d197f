"""The loop of self-training over tensors, through the functions that the stages call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.labels.select import (
    Candidates,
    find_cuts,
    id_hashes,
    select,
    stored_confidences,
)
from pipeline.labels.teaching import Teaching, refined_log_probs, targets_of
from pipeline.models.spec import ModelSpec
from pipeline.params import EmbedParams, Params, Training
from pipeline.self_training.models import (
    Floats,
    Head,
    Inputs,
    Model,
    Network,
    PseudoLabels,
    features_of,
    starting_weights,
)
from pipeline.tasks.mixtures import average_log_probs
from pipeline.train.body import embedded
from pipeline.train.training_data import TrainingData
from pipeline.train.trials import ModeTrial, Trials

__all__ = ["Features", "Floats", "Generation", "Images", "self_train"]


@dataclass(frozen=True)
class Images:
    """Labelled, unlabelled and test images: (n, C, S, S) uint8; labels (n,) int64."""

    labeled: Tensor
    labels: Tensor
    unlabeled: Tensor
    test: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Features:
    """What a frozen body makes of the same images: (n, F) float16."""

    labeled: NDArray[np.float16]
    unlabeled: NDArray[np.float16]
    test: NDArray[np.float16]


@dataclass(frozen=True)
class Generation:
    """What one generation came to; accuracies in [0, 1]."""

    log_probs: Floats
    test_accuracy: float
    centre_accuracy: float


def self_train(
    images: Images,
    params: Params,
    *,
    features: Features | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> list[Generation]:
    """Train every generation of `params` in turn and test each; without validation images.

    features: what the body of params.embed makes of the images, computed here where it is None.
    """
    splits = splits_of(images, params, features)
    if params.transfer.mode == "auto":
        trial = _mode_trial(splits, params)
        say(f"mode {trial.mode}: {trial}")
        params = params.with_mode(trial.mode)
    results: list[Generation] = []
    teachers: list[Model] = []
    for key in params.model_keys:
        taught = None
        if key != "0":
            by = teachers if params.predict.teacher == "ensemble" else teachers[-1:]
            taught = pseudo_labels(by, splits, params, key)
        teachers.append(_trained(splits, params, key, taught, teachers[-1:], device))
        results.append(_tested(teachers[-1], splits, params))
        say(f"generation {key}: {results[-1].test_accuracy:.4f}")
    return results


def train_control(images: Images, params: Params, name: str, *, device: str = "cpu") -> Generation:
    """Train and test a control of `params`: the labels alone, for longer."""
    splits = splits_of(images, params.model_copy(update={"embed": EmbedParams()}), None)
    return _tested(_trained(splits, params, f"0.{name}", None, [], device), splits, params)


def try_modes(images: Images, params: Params, *, features: Features | None = None) -> ModeTrial:
    """What transfer.mode: auto comes to, as the stage search tries it."""
    return _mode_trial(splits_of(images, params, features), params)


def _mode_trial(splits: Splits, params: Params) -> ModeTrial:
    training = params.shared_training
    torch.set_num_threads(training.train.threads)
    data, spec = _training_data(splits.images), _spec(splits.images, training, "0")
    with TemporaryDirectory() as folder:
        trials = Trials(data, spec, training, params.seed, Path(folder))
        return trials.compare_modes(features_of(splits.labeled), starting_weights(training, None))


@dataclass(frozen=True)
class Splits:
    """The images, and each part as models take it."""

    images: Images
    labeled: Inputs
    unlabeled: Inputs
    test: Inputs


def splits_of(images: Images, params: Params, features: Features | None) -> Splits:
    """The images with their features, where there are some or params.embed asks for them."""
    parts = [images.labeled, images.unlabeled, images.test]
    if features is not None:
        arrays = [features.labeled, features.unlabeled, features.test]
    elif params.embed.source is not None:
        arrays = embedded(parts, params.embed)
    else:
        return Splits(images, *(Inputs(part) for part in parts))
    return Splits(images, *(Inputs(*both) for both in zip(parts, arrays, strict=True)))


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, on the scale of [0, 1]."""
    pixels = images.double() / 255
    mean = pixels.mean(dim=(0, 2, 3))
    std = pixels.std(dim=(0, 2, 3), unbiased=False)
    return tuple(mean.tolist()), tuple(std.tolist())


def pseudo_labels(
    teachers: Sequence[Model], splits: Splits, params: Params, key: str
) -> PseudoLabels:
    """What the teachers' predictions of the unlabelled images become for generation `key`."""
    rules, predict, images = params.selection(key), params.predict, splits.images
    log_probs = average_log_probs(
        [each.log_probs(splits.unlabeled, predict, params.seed) for each in teachers]
    )
    teaching = Teaching(
        propagation=predict.propagation,
        distribution_alignment=rules.distribution_alignment,
        label_kind=rules.label_kind,
        temperature=rules.temperature,
        taught=params.generations[key].teacher != "0",
    )
    features = labeled_features = None
    if predict.propagation is not None:
        features = teachers[-1].features(splits.unlabeled, predict.batch_size)
        labeled_features = teachers[-1].features(splits.labeled, predict.batch_size)
    log_probs = refined_log_probs(
        log_probs,
        teaching,
        features=features,
        labeled_features=labeled_features,
        labels=images.labels.numpy(),
        threads=predict.threads,
    )
    candidates = Candidates(
        log_probs.argmax(axis=1).astype(np.int32),
        stored_confidences(log_probs.max(axis=1)),
        id_hashes(map(str, range(len(log_probs)))),
        dropped=np.zeros(len(log_probs), np.bool_),
    )
    selection = select(candidates, find_cuts(candidates, images.classes, rules))
    return PseudoLabels(targets_of(log_probs, teaching), np.asarray(selection.repeats, np.int64))


def _trained(
    splits: Splits,
    params: Params,
    key: str,
    taught: PseudoLabels | None,
    teachers: Sequence[Model],
    device: str,
) -> Model:
    """The model of generation or control `key`; teachers: the last one, none of generation 0."""
    training, images = params.training(key), splits.images
    torch.set_num_threads(training.train.threads)
    if training.transfer.mode == "head":
        return Head.fit(
            splits.labeled,
            images.labels.numpy(),
            len(images.classes),
            splits.unlabeled,
            taught,
            weight=training.train.unlabeled_weight,
            seed=params.seed,
        )
    data = _training_data(images)
    if taught is not None:
        rows = np.repeat(np.arange(len(taught.repeats)), taught.repeats)
        data = replace(
            data,
            unlabeled_images=images.unlabeled,
            unlabeled_rows=torch.from_numpy(rows),
            unlabeled_targets=torch.from_numpy(taught.targets[rows]),
        )
    spec = _spec(images, training, key)
    teacher = teachers[-1] if teachers else None
    return Network.fit(data, spec, training, teacher, seed=params.seed, device=device)


def _training_data(images: Images) -> TrainingData:
    mean, std = channel_statistics(images.labeled)
    return TrainingData(images.labeled, images.labels, mean, std, num_classes=len(images.classes))


def _spec(images: Images, training: Training, key: str) -> ModelSpec:
    mean, std = channel_statistics(images.labeled)
    return ModelSpec(
        network=training.model.network,
        classes=list(images.classes),
        image_size=images.labeled.shape[-1],
        channels=images.labeled.shape[1],
        mean=list(mean),
        std=list(std),
        generation=key,
    )


def _tested(model: Model, splits: Splits, params: Params) -> Generation:
    truth, rules = splits.images.test_labels.numpy(), params.evaluate
    views = rules.view_params(rules.views_or_centre)  # nothing is held out here to choose by
    log_probs = centre = model.log_probs(splits.test, views, params.seed)
    if views.views != "centre":
        centre = model.log_probs(splits.test)
    accuracy, centre_accuracy = (
        float((each.argmax(axis=1) == truth).mean()) for each in (log_probs, centre)
    )
    return Generation(log_probs, accuracy, centre_accuracy)
