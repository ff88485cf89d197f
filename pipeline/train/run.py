"""One model from prepared folders to a calibrated checkpoint, as one worker sees it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.data.tensors import read_dataset
from pipeline.evaluate.calibration import fit_temperature
from pipeline.evaluate.views import predict_log_probs
from pipeline.models.checkpoint import ModelSpec, network_of, save_checkpoint
from pipeline.params import Training
from pipeline.train.batch import TrainingData, Worker
from pipeline.train.fit import Log, fit
from pipeline.train.inputs import training_data


@dataclass(frozen=True)
class TrainJob:
    """What to train, on what, and where it goes."""

    prepared: Path
    pseudo_labels: Path | None
    model: Path
    state: Path
    generation: str
    teacher: str | None
    seed: int
    training: Training


def train_model(job: TrainJob, worker: Worker, log: Log) -> None:
    """Train the job's model; the worker of rank 0 writes its checkpoint to `job.model`.

    The logits are calibrated by a temperature fitted on the validation images, if there are any.
    """
    train = job.training.train
    torch.set_num_threads(train.threads)
    data = training_data(
        job.prepared, job.pseudo_labels, threads=train.threads, cache_gib=train.cache_gib
    )
    spec = _spec(job)
    network = network_of(spec, job.seed, auxiliary=True)
    weights = fit(
        network,
        data,
        train=train,
        augment=job.training.augment,
        seed=job.seed,
        worker=worker,
        log=log,
        state_folder=job.state,
    )
    if worker.rank == 0:
        temperature = calibrated_temperature(network, weights, data, spec, str(worker.device))
        spec = ModelSpec(**(vars(spec) | {"temperature": temperature}))
        save_checkpoint(job.model, weights, spec)


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


def _spec(job: TrainJob) -> ModelSpec:
    dataset = read_dataset(job.prepared)
    return ModelSpec(
        network=job.training.model.network,
        classes=list(dataset.classes),
        image_size=dataset.image_size,
        channels=dataset.channels,
        mean=list(dataset.mean),
        std=list(dataset.std),
        generation=job.generation,
        teacher=job.teacher,
    )
