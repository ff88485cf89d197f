"""One model from prepared folders to a calibrated checkpoint, as one worker sees it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.data.streamed import SlicedImages
from pipeline.data.tensors import Images, read_dataset
from pipeline.evaluate.checkpoints import bfloat16_agrees, checkpoint_log_probs
from pipeline.evaluate.metrics import fit_temperature
from pipeline.evaluate.views import predict_log_probs
from pipeline.models.checkpoint import load_checkpoint, network_of, save_checkpoint
from pipeline.models.pretrained import Weights, normalization
from pipeline.models.spec import ModelSpec
from pipeline.params import Training, TransferParams
from pipeline.train.fit import fit
from pipeline.train.history import Log
from pipeline.train.inputs import model_spec, training_data
from pipeline.train.training_data import TrainingData
from pipeline.train.transfer import layer_rates, read_source, start_from
from pipeline.train.worker import Worker


@dataclass(frozen=True)
class TrainJob:
    """What to train, on what, and where it goes.

    `teacher`: the digest of the model in `teacher_model`, None for generation 0; `source`: the
    folder or file of weights to start from, where transfer.source means one; `checkpoint_minutes`:
    the longest stretch between two saved states.
    """

    prepared: Path
    pseudo_labels: Path | None
    model: Path
    state: Path
    generation: str
    teacher: str | None
    seed: int
    training: Training
    source: Path | None = None
    teacher_model: Path | None = None
    checkpoint_minutes: float = 5.0


def train_model(job: TrainJob, worker: Worker, log: Log, cache: Path | None = None) -> None:
    """Train the job's model; the worker of rank 0 writes its checkpoint to `job.model`.

    `cache`: a folder in which the workers of a node share decoded images, None for a lone one.
    The logits are calibrated by a temperature fitted on the validation images, if there are any.
    """
    train = job.training.train
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
        job.training.model.network,
        generation=job.generation,
        teacher=job.teacher,
    )
    network = network_of(spec, job.seed, auxiliary=True)
    if (name := job.training.transfer.source) is not None:
        source = read_source(name, job.source, job.training.model.name)
        spec = started(network, spec, source, job.training.transfer)
        data = replace(data, mean=tuple(spec.mean), std=tuple(spec.std))
    if train.distillation_weight > 0 and job.teacher_model is not None:
        streamed = data.labeled_stream is not None
        images = SlicedImages(job.prepared / "labeled") if streamed else data.images
        data = replace(data, taught=_taught(job.teacher_model, images, str(worker.device)))
    weights = fit_network(
        network,
        data,
        training=job.training,
        seed=job.seed,
        worker=worker,
        log=log,
        state_folder=job.state,
        checkpoint_minutes=job.checkpoint_minutes,
    )
    if worker.rank == 0:
        temperature = calibrated_temperature(network, weights, data, spec, str(worker.device))
        spec = replace(spec, temperature=temperature, bfloat16_agrees=_agrees(network, data, spec))
        save_checkpoint(job.model, weights, spec)


def fit_network(
    network: nn.Module,
    data: TrainingData,
    *,
    training: Training,
    seed: int,
    worker: Worker | None = None,
    log: Log = lambda step, values: None,
    state_folder: Path | None = None,
    checkpoint_minutes: float = 5.0,
) -> dict[str, Tensor]:
    """`fit` as `training.transfer` says; returns the averaged weights by name.

    transfer.mode is that of a network: head and auto are settled before.
    """
    transfer = training.transfer
    assert transfer.mode not in ("head", "auto")
    rates = None
    if transfer.mode == "layerwise":
        rates = layer_rates(
            network,
            body_learning_rate=transfer.body_learning_rate,
            layer_decay=transfer.layer_decay,
        )
    return fit(
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


def calibrated_temperature(
    network: nn.Module, weights: dict[str, Tensor], data: TrainingData, spec: ModelSpec, device: str
) -> float:
    """The temperature that suits the validation images, 1.0 without any; loads `weights`."""
    network.load_state_dict(weights)
    if data.validation_images is None or data.validation_labels is None:
        return 1.0
    log_probs = predict_log_probs(
        network.eval(), data.validation_images, mean=spec.mean, std=spec.std, device=device
    )
    return round(fit_temperature(log_probs, np.asarray(data.validation_labels)), 6)


def _agrees(network: nn.Module, data: TrainingData, spec: ModelSpec) -> bool:
    """Whether the trained network may predict in bfloat16, as its validation images say."""
    images, labels = data.validation_images, data.validation_labels
    return (
        images is not None and labels is not None and bfloat16_agrees(network, images, labels, spec)
    )


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


def _taught(teacher: Path, images: Images, device: str) -> Tensor:
    """What the teacher thinks of the labelled images, without noise: probabilities (N, K)."""
    checkpoint = load_checkpoint(teacher)
    checkpoint.network.to(device)
    return torch.from_numpy(np.exp(checkpoint_log_probs(checkpoint, images)))
