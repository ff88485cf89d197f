"""Self-training of tensors in one process, through the functions that the stages call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.evaluate.ensemble import average_log_probs
from pipeline.evaluate.views import predict_log_probs
from pipeline.labels.align import aligned, alignment_shift
from pipeline.labels.choice import choose_rows
from pipeline.labels.pool import network_features
from pipeline.labels.propagate import combine_with_neighbors
from pipeline.labels.select import sharpen
from pipeline.labels.shares import pool_shares
from pipeline.labels.ties import tie_breakers
from pipeline.models.checkpoint import network_of
from pipeline.models.pretrained import Weights
from pipeline.models.spec import ModelSpec
from pipeline.params import Params, Training
from pipeline.train.run import calibrated_temperature, fit_network
from pipeline.train.training_data import TrainingData
from pipeline.train.transfer import start_from
from pipeline.train.worker import Worker

Floats = NDArray[np.float32]


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
class Generation:
    """What one generation came to; accuracies in [0, 1]."""

    log_probs: Floats
    test_accuracy: float
    centre_accuracy: float


def self_train(
    images: Images,
    params: Params,
    *,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> list[Generation]:
    """Train every generation of `params` in turn and test each; without validation images."""
    torch.set_num_threads(params.train.threads)
    mean, std = channel_statistics(images.labeled)
    data = TrainingData(images.labeled, images.labels, mean, std, num_classes=len(images.classes))
    results: list[Generation] = []
    teachers: list[torch.nn.Module] = []
    for key in params.model_keys:
        training = params.training(key)
        spec = ModelSpec(
            network=training.model.network,
            classes=list(images.classes),
            image_size=images.labeled.shape[-1],
            channels=images.labeled.shape[1],
            mean=list(mean),
            std=list(std),
            generation=key,
        )
        if key != "0":
            taught_by = teachers if params.predict.teacher == "ensemble" else teachers[-1:]
            data = replace(data, **_pseudo_labeled(taught_by, spec, images, params, key, device))
        network = network_of(spec, params.seed, auxiliary=True)
        if training.transfer.source == "teacher":
            _start_from(teachers[-1], network, spec, training)
        if training.train.distillation_weight > 0 and teachers:
            data = replace(data, taught=_taught(teachers[-1], spec, images.labeled, device))
        weights = fit_network(
            network,
            data,
            training=training,
            seed=params.seed,
            worker=Worker(device=torch.device(device)),
        )
        calibrated_temperature(network, weights, data, spec, device)
        teachers.append(network)
        results.append(_tested(network, spec, images, params, device))
        say(f"generation {key}: {results[-1].test_accuracy:.4f}")
    return results


def _start_from(
    teacher: torch.nn.Module, network: torch.nn.Module, spec: ModelSpec, training: Training
) -> None:
    """Begin with the teacher's weights."""
    weights = Weights(dict(teacher.state_dict()), classes=tuple(spec.classes))
    start_from(
        network,
        weights,
        source="teacher",
        mode=training.transfer.mode,
        frozen_stages=training.transfer.frozen_stages,
        classes=spec.classes,
    )


def _taught(teacher: torch.nn.Module, spec: ModelSpec, images: Tensor, device: str) -> Tensor:
    """The teacher's probabilities for the labelled images."""
    log_probs = predict_log_probs(teacher, images, mean=spec.mean, std=spec.std, device=device)
    return torch.from_numpy(np.exp(log_probs))


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, on the scale of [0, 1]."""
    pixels = images.double() / 255
    mean = pixels.mean(dim=(0, 2, 3))
    std = pixels.std(dim=(0, 2, 3), unbiased=False)
    return tuple(mean.tolist()), tuple(std.tolist())


def _pseudo_labeled(
    teachers: list[torch.nn.Module],
    spec: ModelSpec,
    images: Images,
    params: Params,
    key: str,
    device: str,
) -> dict[str, Any]:
    chosen, predict = params.selection(key), params.predict
    counts = np.bincount(images.labels.numpy(), minlength=len(images.classes))
    log_probs = average_log_probs(
        [
            predict_log_probs(
                teacher,
                images.unlabeled,
                mean=spec.mean,
                std=spec.std,
                view=predict.views,
                jitter_views=predict.jitter_views,
                batch_size=predict.batch_size,
                seed=params.seed,
                device=device,
            )
            for teacher in teachers
        ]
    )
    if predict.propagation is not None:
        see = network_features(
            teachers[-1], mean=spec.mean, std=spec.std, batch_size=predict.batch_size, device=device
        )
        log_probs = combine_with_neighbors(
            log_probs,
            see(images.labeled).numpy(),
            images.labels.numpy(),
            see(images.unlabeled).numpy(),
            predict.propagation,
            pool_shares("labeled", log_probs, counts),
            threads=predict.threads,
        )
    if chosen.distribution_alignment != "none":
        shares = pool_shares(chosen.distribution_alignment, log_probs, counts)
        log_probs = aligned(log_probs, alignment_shift(log_probs, shares))
    hashes = tie_breakers(map(str, range(len(log_probs))))
    labels = log_probs.argmax(axis=1).astype(np.int32)
    selection = choose_rows(
        labels, np.exp(log_probs.max(axis=1)), hashes, classes=images.classes, **chosen.rules
    )
    if chosen.label_kind == "hard":
        targets = np.eye(len(images.classes), dtype=np.float32)[labels]
    else:
        targets = sharpen(np.exp(log_probs), chosen.temperature)
    rows = np.repeat(np.arange(len(labels)), selection.repeats)
    return {
        "unlabeled_images": images.unlabeled,
        "unlabeled_rows": torch.from_numpy(rows),
        "unlabeled_targets": torch.from_numpy(targets[rows]),
    }


def _tested(
    network: torch.nn.Module, spec: ModelSpec, images: Images, params: Params, device: str
) -> Generation:
    truth = images.test_labels.numpy()
    by_view = {
        view: predict_log_probs(
            network,
            images.test,
            mean=spec.mean,
            std=spec.std,
            view=view,
            jitter_views=params.evaluate.jitter_views,
            batch_size=params.evaluate.batch_size,
            seed=params.seed,
            device=device,
        )
        for view in {"centre", params.evaluate.views}
    }
    accuracy = {view: float((p.argmax(axis=1) == truth).mean()) for view, p in by_view.items()}
    chosen = params.evaluate.views
    return Generation(by_view[chosen], accuracy[chosen], accuracy["centre"])
