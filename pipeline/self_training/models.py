"""Networks and heads that are trained and asked in one process: what self-training is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import ParameterError
from pipeline.evaluate.views import CENTRE, predict
from pipeline.labels.pool import network_features
from pipeline.models.head import LinearHead
from pipeline.models.pretrained import Weights
from pipeline.models.spec import ModelSpec
from pipeline.params import Training, ViewParams
from pipeline.self_training.heads import Labeled, fit_generation
from pipeline.tasks import open_task
from pipeline.train.head import FeatureBlock
from pipeline.train.run import train_network
from pipeline.train.training_data import TrainingData
from pipeline.train.transfer import read_source
from pipeline.train.worker import Worker

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Inputs:
    """What models take: images (n, C, S, S) uint8, and what a frozen body makes of them,
    (n, F), None without one."""

    images: Tensor
    features: NDArray[np.float16] | None = None


@dataclass(frozen=True)
class PseudoLabels:
    """Of each unlabelled image its target (M, K) and how often it counts (M,)."""

    targets: Floats
    repeats: NDArray[np.int64]


class Model(Protocol):
    """What teaches, and is tested."""

    def log_probs(self, inputs: Inputs, views: ViewParams = CENTRE, seed: int = 0) -> Floats:
        """Of each class, (n, K); seed: of the views."""

    def features(self, inputs: Inputs, batch_size: int) -> NDArray[Any]:
        """In which neighbours are looked for, (n, F)."""


@dataclass(frozen=True)
class Network:
    """A trained network on its device."""

    network: nn.Module
    spec: ModelSpec
    device: str

    @classmethod
    def fit(
        cls,
        data: TrainingData,
        spec: ModelSpec,
        training: Training,
        teacher: Model | None,
        *,
        seed: int,
        device: str,
    ) -> Network:
        """A network from the weights that transfer.source names, trained as `training` says."""
        weights = None
        if training.transfer.source is not None:
            weights = starting_weights(training, teacher)
        if training.train.distillation_weight > 0 and teacher is not None:
            probs = np.exp(teacher.log_probs(Inputs(data.images)))
            data = replace(data, taught=torch.from_numpy(probs))
        worker = Worker(device=torch.device(device))
        network, spec = train_network(
            spec, data, training, seed=seed, weights=weights, worker=worker
        )
        return cls(network, spec, device)

    def log_probs(self, inputs: Inputs, views: ViewParams = CENTRE, seed: int = 0) -> Floats:
        """As Model says."""
        return predict(
            self.network,
            inputs.images,
            open_task(self.spec.task),
            mean=self.spec.mean,
            std=self.spec.std,
            views=views,
            seed=seed,
            device=self.device,
        )

    def features(self, inputs: Inputs, batch_size: int) -> NDArray[Any]:
        """Its own, before its classifier."""
        mean, std = self.spec.mean, self.spec.std
        embed = network_features(
            self.network, mean=mean, std=std, batch_size=batch_size, device=self.device
        )
        return np.asarray(embed(inputs.images).numpy())


@dataclass(frozen=True)
class Head:
    """A classifier on the features of a frozen body."""

    head: LinearHead

    @classmethod
    def fit(
        cls,
        labeled: Inputs,
        labels: NDArray[np.int64],
        num_classes: int,
        unlabeled: Inputs,
        taught: PseudoLabels | None,
        *,
        weight: float,
        seed: int,
    ) -> Head:
        """A head as the stages fit it, not cross-validated; weight: of a pseudo-labelled image."""
        known = Labeled(features_of(labeled), labels, num_classes)
        if taught is None:
            return cls(fit_generation(known, None, seed=seed)[0])
        weights = (weight * taught.repeats).astype(np.float32)
        block = FeatureBlock(features_of(unlabeled), taught.targets, weights)
        return cls(fit_generation(known, lambda: [block], seed=seed)[0])

    def log_probs(self, inputs: Inputs, views: ViewParams = CENTRE, seed: int = 0) -> Floats:
        """As Model says, of the image as it was embedded."""
        if views.views != "centre":
            raise ParameterError(
                f"views = {views.views!r}: here a classifier on features sees an image from the "
                "centre"
            )
        return self.head.log_probs(features_of(inputs))

    def features(self, inputs: Inputs, batch_size: int) -> NDArray[Any]:
        """Those of the frozen body."""
        return features_of(inputs)


def features_of(inputs: Inputs) -> NDArray[np.float16]:
    """The features of a frozen body; raises ParameterError without them."""
    if inputs.features is None:
        raise ParameterError("embed.source = None: a classifier on features needs some")
    return inputs.features


def starting_weights(training: Training, teacher: Model | None) -> Weights:
    """The teacher's weights, or those of a source without a path."""
    name = str(training.transfer.source)
    if name != "teacher":
        return read_source(name, None, training.model.name)
    if not isinstance(teacher, Network):
        raise ParameterError("transfer.source = 'teacher': here its network is not at hand")
    spec, tensors = teacher.spec, dict(teacher.network.state_dict())
    return Weights(tensors, tuple(spec.mean), tuple(spec.std), classes=tuple(spec.classes))
