"""Networks and heads that are trained and asked in one process: what self-training is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import ParameterError
from pipeline.evaluate.views import CENTRE, predict_log_probs
from pipeline.labels.pool import network_features
from pipeline.models.checkpoint import network_of
from pipeline.models.head import LinearHead
from pipeline.models.parts import batched_features
from pipeline.models.pretrained import Weights, load_weights, normalization
from pipeline.models.spec import ModelSpec
from pipeline.params import EmbedParams, NetworkParams, Training, ViewParams
from pipeline.train.head import TAUGHT_L2, FeatureBlock, choose_l2, fit_head, labeled_block
from pipeline.train.run import calibrated_temperature, fit_network, started
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

    def log_probs(self, inputs: Inputs, views: ViewParams = CENTRE, seed: int = 0) -> Floats:
        """As Model says."""
        return predict_log_probs(
            self.network,
            inputs.images,
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


def embedded(parts: Sequence[Tensor], params: EmbedParams) -> list[NDArray[np.float16]]:
    """What the frozen body of `params` makes of each part's images (n, C, S, S): (n, F)."""
    assert params.source is not None
    torch.set_num_threads(params.threads)
    channels, side = parts[0].shape[1:3]
    network = NetworkParams(name=params.name, input_size=params.input_size, stem="standard")
    plain = [0.5] * channels
    classes = ["any", "other"]
    spec = ModelSpec(network.model_dump(), classes, side, channels, plain, plain, "body")
    body = network_of(spec).to(memory_format=torch.channels_last)
    weights = read_source(params.source, None, params.name)
    load_weights(body, weights, head=False, source=params.source)
    mean, std = normalization(weights, channels) or (plain, plain)
    how: dict[str, Any] = {"mean": mean, "std": std, "batch_size": params.batch_size}
    return [batched_features(body, part, **how).numpy().astype(np.float16) for part in parts]


def train_head(
    labeled: Inputs,
    labels: NDArray[np.int64],
    num_classes: int,
    unlabeled: Inputs,
    taught: PseudoLabels | None,
    *,
    weight: float,
    seed: int,
) -> Head:
    """A head as pipeline.workflow.train_head fits it, not cross-validated.

    weight: of a pseudo-labelled image; without any its L2 is chosen by the labels.
    """
    features = features_of(labeled)
    blocks = [labeled_block(features, labels, num_classes)]
    if taught is None:
        l2 = choose_l2(features, labels, num_classes, seed=seed).l2
    else:
        l2, counts = TAUGHT_L2, (weight * taught.repeats).astype(np.float32)
        blocks.append(FeatureBlock(features_of(unlabeled), taught.targets, counts))
    return Head(fit_head(lambda: blocks, features.shape[1], num_classes, l2=l2))


def train_network(
    data: TrainingData,
    spec: ModelSpec,
    training: Training,
    teacher: Model | None,
    *,
    seed: int,
    device: str,
) -> Network:
    """A network from the weights that transfer.source names, trained as `training` says."""
    network = network_of(spec, seed, auxiliary=True)
    if training.transfer.source is not None:
        weights = starting_weights(training, teacher)
        spec = started(network, spec, weights, training.transfer)
        data = replace(data, mean=tuple(spec.mean), std=tuple(spec.std))
    if training.train.distillation_weight > 0 and teacher is not None:
        probs = np.exp(teacher.log_probs(Inputs(data.images)))
        data = replace(data, taught=torch.from_numpy(probs))
    worker = Worker(device=torch.device(device))
    weights_now = fit_network(network, data, training=training, seed=seed, worker=worker)
    calibrated_temperature(network, weights_now, data, spec, device)
    return Network(network, spec, device)


def starting_weights(training: Training, teacher: Model | None) -> Weights:
    """The teacher's weights, or those of a source without a path."""
    name = str(training.transfer.source)
    if name != "teacher":
        return read_source(name, None, training.model.name)
    if not isinstance(teacher, Network):
        raise ParameterError("transfer.source = 'teacher': here its network is not at hand")
    spec, tensors = teacher.spec, dict(teacher.network.state_dict())
    return Weights(tensors, tuple(spec.mean), tuple(spec.std), classes=tuple(spec.classes))
