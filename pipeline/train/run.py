"""One model from prepared folders to a calibrated checkpoint, as one worker sees it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.data.rows import read_sizes
from pipeline.data.sliced import ShardSlices
from pipeline.data.tensors import Images, decoding_pool, read_dataset
from pipeline.evaluate.checkpoints import (
    bfloat16_agrees,
    checkpoint_predictions,
    predicted_parts,
)
from pipeline.models.checkpoint import load_checkpoint, network_of, save_checkpoint
from pipeline.models.pretrained import Weights, normalization
from pipeline.models.spec import ModelSpec, model_digest
from pipeline.params import Training, TransferParams
from pipeline.tasks import open_task
from pipeline.tasks.metrics import fit_temperature
from pipeline.train.fit import fit
from pipeline.train.history import Log
from pipeline.train.inputs import model_spec, training_data
from pipeline.train.training_data import TrainingData
from pipeline.train.transfer import layer_rates, read_source, start_from
from pipeline.train.worker import Worker

SAMPLED = 200_000  # units that a temperature is fitted on, about


@dataclass(frozen=True)
class TrainJob:
    """What to train, on what, and where it goes.

    `teacher`: the folder of the model that made `pseudo_labels`, None for generation 0; `source`:
    the folder or file of weights to start from, where transfer.source means one;
    `checkpoint_minutes`: the longest stretch between two saved states.
    """

    prepared: Path
    pseudo_labels: Path | None
    model: Path
    state: Path
    generation: str
    teacher: Path | None
    seed: int
    training: Training
    source: Path | None = None
    checkpoint_minutes: float = 5.0


def train_model(job: TrainJob, worker: Worker, log: Log, cache: Path | None = None) -> None:
    """Train the job's model; the worker of rank 0 writes its checkpoint to `job.model`.

    `cache`: a folder in which the workers of a node share decoded images, None for a lone one.
    The logits are calibrated by a temperature fitted on the validation images, if there are any.
    """
    training, train = job.training, job.training.train
    torch.set_num_threads(train.threads)
    data = training_data(
        job.prepared,
        job.pseudo_labels,
        threads=train.threads,
        cache_gib=train.cache_gib,
        cache=cache,
    )
    spec = model_spec(
        read_dataset(job.prepared),
        training.model.network,
        generation=job.generation,
        teacher=None if job.teacher is None else model_digest(job.teacher),
    )
    name, weights = training.transfer.source, None
    if name is not None:
        weights = read_source(name, job.source, training.model.name)
    if train.distillation_weight > 0 and job.teacher is not None:
        streamed = data.labeled_stream is not None
        with decoding_pool(1) as pool:
            images = ShardSlices(job.prepared / "labeled", pool) if streamed else data.images
            taught = _taught(job.teacher, images, job.prepared / "labeled", worker.device)
            data = replace(data, taught=taught)
    network, spec = train_network(
        spec,
        data,
        training,
        seed=job.seed,
        weights=weights,
        worker=worker,
        log=log,
        state_folder=job.state,
        checkpoint_minutes=job.checkpoint_minutes,
    )
    if worker.rank == 0:
        spec = calibrated(network, data, spec)
        save_checkpoint(job.model, network.state_dict(), spec)


def train_network(
    spec: ModelSpec,
    data: TrainingData,
    training: Training,
    *,
    seed: int,
    weights: Weights | None = None,
    worker: Worker | None = None,
    log: Log = lambda step, values: None,
    state_folder: Path | None = None,
    checkpoint_minutes: float = 5.0,
) -> tuple[nn.Module, ModelSpec]:
    """The network of `spec` after `fit`, with averaged weights and in evaluation mode.

    It starts from `weights`, None for random ones; the spec comes back with the normalisation that
    these want. transfer.mode is that of a network: head and auto are settled before.
    """
    transfer = training.transfer
    assert transfer.mode not in ("head", "auto")
    network, rates = network_of(spec, seed), None
    if weights is not None:
        spec = started(network, spec, weights, transfer)
        data = replace(data, mean=tuple(spec.mean), std=tuple(spec.std))
    if transfer.mode == "layerwise":
        rates = layer_rates(
            network,
            body_learning_rate=transfer.body_learning_rate,
            layer_decay=transfer.layer_decay,
        )
    averaged = fit(
        network,
        data,
        train=training.train,
        augment=training.augment,
        seed=seed,
        rates=rates,
        worker=worker,
        log=log,
        state_folder=state_folder,
        checkpoint_minutes=checkpoint_minutes,
    )
    network.load_state_dict(averaged)
    return network.eval(), spec


def calibrated(network: nn.Module, data: TrainingData, spec: ModelSpec) -> ModelSpec:
    """The spec with what the validation images say: a temperature, and whether bfloat16 will do."""
    images, labels = data.validation_images, data.validation_labels
    if images is None or labels is None:
        return spec
    log_probs, classes = sampled_units(network, images, labels, spec)
    spec = replace(spec, temperature=round(fit_temperature(log_probs, classes), 6))
    return replace(spec, bfloat16_agrees=bfloat16_agrees(network, images, labels, spec))


def sampled_units(
    network: nn.Module, images: Tensor, targets: Tensor, spec: ModelSpec
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Log-probabilities (U, K) and true classes (U,) of SAMPLED units of the images, about."""
    task, most = open_task(spec.task), max(1, SAMPLED // len(images))
    parts = [
        task.sample(log_probs, true, most)
        for log_probs, true in predicted_parts(network, images, targets, spec)
    ]
    return np.concatenate([part for part, _ in parts]), np.concatenate([part for _, part in parts])


def started(
    network: nn.Module, spec: ModelSpec, weights: Weights, transfer: TransferParams
) -> ModelSpec:
    """Load the weights to start from; the spec with the normalisation that they want."""
    start_from(
        network,
        weights,
        source=str(transfer.source),
        classes=spec.classes,
        frozen_stages=transfer.frozen_stages,
        freeze_statistics=transfer.freeze_statistics,
    )
    wanted = normalization(weights, spec.channels)
    return spec if wanted is None else replace(spec, mean=wanted[0], std=wanted[1])


def _taught(teacher: Path, images: Images, folder: Path, device: torch.device) -> Tensor:
    """What the teacher thinks of the labelled images of `folder`, without noise: pseudo-labels
    (N, …)."""
    checkpoint = load_checkpoint(teacher)
    checkpoint.network.to(device)
    task, predictions = open_task(checkpoint.spec.task), checkpoint_predictions(checkpoint, images)
    if task.keeps_whole:
        predictions = task.outside(predictions, read_sizes(folder))
    return torch.from_numpy(task.as_taught(predictions))
