"""A classifier on a frozen body, or the whole network: whichever classifies the labels out of fold.

Neither is always better: a body that has seen such images needs no change, another needs it most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.data.tensors import read_dataset
from pipeline.evaluate.metrics import correct
from pipeline.evaluate.views import predict_log_probs
from pipeline.files import read_json, write_json
from pipeline.models.checkpoint import network_of
from pipeline.models.passes import resolve_device
from pipeline.models.pretrained import Weights
from pipeline.models.spec import ModelSpec
from pipeline.params import Training
from pipeline.progress import Advance
from pipeline.train.head import choose_l2, fit_labeled, stratified_folds
from pipeline.train.inputs import model_spec, training_data
from pipeline.train.run import fit_network, started
from pipeline.train.training_data import TrainingData
from pipeline.train.transfer import Source, read_source
from pipeline.train.worker import Worker

FOLDS = 3


@dataclass(frozen=True)
class ModeTrial:
    """How many of so many labelled images each has right that it was not trained on."""

    images: int
    head: int
    network: int

    @property
    def mode(self) -> str:
        """The transfer.mode to train by; of equals the network, which pseudo-labels help more."""
        return "layerwise" if self.network >= self.head else "head"


def compare_prepared(
    prepared: Path,
    features: NDArray[np.float16],
    training: Training,
    source: Source,
    *,
    seed: int,
    kept: Path,
    advance: Advance,
) -> ModeTrial:
    """`compare_modes` on the labelled images of a prepared folder, whose `features` are (N, F)."""
    train = training.train
    torch.set_num_threads(train.threads)
    data = training_data(prepared, None, threads=train.threads, cache_gib=train.cache_gib)
    spec = model_spec(read_dataset(prepared), training.model.network, generation="0")
    weights = read_source(source.name, source.path, training.model.name)
    return compare_modes(
        data, features, spec, training, weights, seed=seed, kept=kept, advance=advance
    )


def compare_modes(
    data: TrainingData,
    features: NDArray[np.float16],
    spec: ModelSpec,
    training: Training,
    weights: Weights,
    *,
    seed: int,
    kept: Path | None = None,
    advance: Advance | None = None,
) -> ModeTrial:
    """Cross-validate a head on `features` (N, F) and the network of `spec` on the same labels.

    The network starts from `weights` and trains as `training` says, for transfer.trial_steps steps
    on labelled images alone. With `kept` a fold that is finished is kept in that folder and not
    repeated; `advance` is told the folds done.
    """
    training = _trial_of(training)
    labels, classes = data.labels.numpy(), len(spec.classes)
    fold = stratified_folds(labels, FOLDS, seed)
    l2 = choose_l2(features, labels, classes, seed=seed).l2
    head = network = 0
    for number in range(FOLDS):
        held = fold == number
        if not held.any():
            continue
        fitted = fit_labeled(features[~held], labels[~held], classes, l2=l2)
        head += int(correct(fitted.log_probs(features[held]), labels[held]).sum())
        network += _kept_count(
            None if kept is None else kept / f"fold_{number}",
            partial(_network_right, data, held, spec, training, weights, seed),
        )
        if advance is not None:
            advance(1, f"head {head}, network {network} right")
    return ModeTrial(int((fold >= 0).sum()), head, network)


def _trial_of(training: Training) -> Training:
    """The short run on labelled images alone that the network is tried by."""
    steps = {
        "steps": training.transfer.trial_steps,
        "batch_size": training.train.images_a_step(taught=True),
        "finetune_steps": 0,
    }
    return training.model_copy(
        update={
            "train": training.train.model_copy(update=steps),
            "transfer": training.transfer.model_copy(update={"mode": "layerwise"}),
        }
    )


def _kept_count(state: Path | None, work: Callable[[Path | None], int]) -> int:
    """What `work` counts, from the file beside its `state` folder if it was done before."""
    if state is None:
        return work(None)
    path = state.with_suffix(".json")
    if not path.exists():
        write_json(path, {"right": work(state)})
    return int(read_json(path)["right"])


def _network_right(
    data: TrainingData,
    held: NDArray[np.bool_],
    spec: ModelSpec,
    training: Training,
    weights: Weights,
    seed: int,
    state: Path | None,
) -> int:
    """How many of the images held out the network has right that is trained on the others."""
    network, device = network_of(spec, seed), resolve_device(training.train.device)
    spec = started(network, spec, weights, training.transfer)
    part = replace(
        data,
        images=data.images[~held],
        labels=data.labels[~held],
        mean=tuple(spec.mean),
        std=tuple(spec.std),
        validation_images=None,
        validation_labels=None,
    )
    worker = Worker(device=device)
    trained = fit_network(
        network, part, training=training, seed=seed, worker=worker, state_folder=state
    )
    network.load_state_dict(trained)
    log_probs = predict_log_probs(
        network, data.images[held], mean=spec.mean, std=spec.std, device=device
    )
    return int(correct(log_probs, data.labels[held].numpy()).sum())
