"""Choose RandAugment's two numbers by short trials (Cubuk et al. 2020, sec. 3.2: a grid search)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pipeline.data.tensors import read_dataset
from pipeline.errors import DataError
from pipeline.evaluate.metrics import correct, negative_log_likelihood
from pipeline.evaluate.views import predict_log_probs
from pipeline.files import read_json, write_json
from pipeline.models.checkpoint import network_of
from pipeline.models.passes import resolve_device
from pipeline.models.spec import ModelSpec
from pipeline.params import AugmentParams, Training, TrainParams
from pipeline.progress import Advance
from pipeline.train.fit import fit
from pipeline.train.inputs import model_spec, training_data
from pipeline.train.training_data import TrainingData
from pipeline.train.worker import Worker


@dataclass(frozen=True)
class Trial:
    """What training with `num_ops` operations at `magnitude` came to on the validation images."""

    num_ops: int
    magnitude: float
    accuracy: float
    nll: float


def search_policy(
    data: TrainingData,
    spec: ModelSpec,
    pairs: Sequence[tuple[int, float]],
    *,
    train: TrainParams,
    augment: AugmentParams,
    num_seeds: int,
    seed: int,
    kept: Path,
    advance: Advance = lambda amount=1, note="": None,
) -> list[Trial]:
    """Train with each of `pairs` (num_ops, magnitude) and measure it: means over `num_seeds`.

    Trains on the labelled images of `data` alone, in this process. Every pair gets the same
    seeds, which are drawn from `seed`. A trial that is finished is kept under `kept` and not
    repeated. Raises DataError where there are no validation images.
    """
    if data.validation_images is None:
        raise DataError(
            "augment.search: no validation images to choose on; raise data.labels or "
            "data.validation_fraction, or set augment.search: null"
        )
    seeds = np.random.SeedSequence([seed, 3]).generate_state(num_seeds) >> 1
    alone = replace(data, unlabeled_images=None, unlabeled_rows=None, unlabeled_targets=None)
    trials = []
    for num_ops, magnitude in pairs:
        changed = augment.model_copy(update={"num_ops": num_ops, "magnitude": magnitude})
        name = f"{num_ops}_{magnitude}"
        runs = []
        for one in seeds.tolist():
            path = kept / f"{name}_{one}.json"
            if not path.exists():
                state = kept / f"{name}_{one}"
                write_json(path, asdict(_trial(alone, spec, train, changed, one, state)))
            runs.append(Trial(**read_json(path)))
            advance(1, f"{num_ops} operations at {magnitude}: {runs[-1].accuracy:.4f}")
        accuracy, nll = (float(np.mean([getattr(r, k) for r in runs])) for k in ("accuracy", "nll"))
        trials.append(Trial(num_ops, magnitude, accuracy, nll))
    return trials


def search_prepared(
    prepared: Path,
    training: Training,
    pairs: Sequence[tuple[int, float]],
    *,
    steps: int,
    num_seeds: int,
    seed: int,
    kept: Path,
    advance: Advance = lambda amount=1, note="": None,
) -> list[Trial]:
    """The same on a prepared folder, with the network and parameters of `training`, for `steps`."""
    train = training.train.model_copy(update={"steps": steps})
    return search_policy(
        training_data(prepared, None, threads=train.threads, cache_gib=train.cache_gib),
        model_spec(read_dataset(prepared), training.model.network, generation="0"),
        pairs,
        train=train,
        augment=training.augment,
        num_seeds=num_seeds,
        seed=seed,
        kept=kept,
        advance=advance,
    )


def best_trial(trials: Sequence[Trial]) -> Trial:
    """The most accurate; of equals the one with the least NLL, then the first."""
    return min(trials, key=lambda trial: (-trial.accuracy, trial.nll))


def _trial(
    data: TrainingData,
    spec: ModelSpec,
    train: TrainParams,
    augment: AugmentParams,
    seed: int,
    state: Path,
) -> Trial:
    """Train one model and measure its averaged weights on the validation images as they are."""
    assert data.validation_images is not None
    assert data.validation_labels is not None
    torch.set_num_threads(train.threads)
    device = resolve_device(train.device)
    network = network_of(spec, seed)
    weights = fit(
        network,
        replace(data, validation_images=None, validation_labels=None),
        train=train,
        augment=augment,
        seed=seed,
        worker=Worker(device=device),
        state_folder=state,
    )
    network.load_state_dict(weights)
    log_probs = predict_log_probs(
        network, data.validation_images, mean=spec.mean, std=spec.std, device=device
    )
    labels = data.validation_labels.numpy()
    return Trial(
        augment.num_ops,
        augment.magnitude,
        float(correct(log_probs, labels).mean()),
        negative_log_likelihood(log_probs, labels),
    )
