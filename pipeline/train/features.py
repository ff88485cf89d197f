"""Train a classifier on a frozen body without running the body more than once an image.

Where no augmentation changes the images from step to step, what the body makes of each is always
the same: it is computed once, kept in memory, and the steps run on the classifier alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pipeline.models.parts import batched_features, features_and_logits, head_names
from pipeline.params import TrainParams
from pipeline.train.noise import model_noise
from pipeline.train.training_data import TrainingData, has_pseudo_labels, normalized, on_device
from pipeline.train.transfer import training_mode
from pipeline.train.worker import Worker

PROBES = 4  # training passes that are compared with one in evaluation mode
PROBED_IMAGES = 64  # of each: a block skipped in 1 of 20 is missed once in 500,000
HEAD = "classifier"
GIB = 1 << 30


@dataclass(frozen=True)
class Head:
    """A network's classifier as a network of its own, which reads features (N, F).

    `network`: its dropout and then the classifier, the same module; `prefix`: the classifier's
    name in the whole network.
    """

    network: nn.Module
    prefix: str

    def whole(self, body: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of all of `body`, with those of the trained head in their places."""
        named = {key.replace(HEAD, self.prefix, 1): value for key, value in weights.items()}
        whole = body.state_dict() | named
        return {key: value.detach().clone() for key, value in whole.items()}


def separate_head(
    network: nn.Module, data: TrainingData, *, train: TrainParams, dropout_rate: float, seed: int
) -> Head | None:
    """The head of `network`, if training it on features is training it in the whole; else None.

    That needs a body of which nothing trains, images that are the same at every step, a linear
    classifier, no noise in the body (tried out on some images), and memory for images and features.
    """
    names = head_names(network)
    classifier = network.get_submodule(names[0])
    body_moves = any(
        weight.requires_grad
        for key, weight in network.named_parameters()
        if not key.startswith(f"{names[0]}.")
    )
    if body_moves or len(names) > 1 or not isinstance(classifier, nn.Linear):
        return None
    if data.labeled_stream is not None or data.unlabeled_stream is not None:
        return None
    if _augments(data, train) or _feature_gib(data, classifier.in_features) > train.cache_gib:
        return None
    if not _body_is_constant(network, names[0], data, dropout_rate, seed):
        return None
    head = nn.Sequential()
    head.add_module("dropout", nn.Dropout(dropout_rate))
    head.add_module(HEAD, classifier)
    return Head(head, names[0])


def feature_data(network: nn.Module, data: TrainingData, device: torch.device) -> TrainingData:
    """`data` with the features of `network` in place of its images, on `device`."""
    network.to(device).to(memory_format=torch.channels_last)
    data = on_device(data, device)

    def seen(images: Tensor) -> Tensor:
        return batched_features(network, images, mean=data.mean, std=data.std)

    changed = replace(data, images=seen(data.images))
    if data.unlabeled_images is not None and has_pseudo_labels(data):
        changed = replace(changed, unlabeled_images=seen(data.unlabeled_images))
    if data.validation_images is not None:
        changed = replace(changed, validation_images=seen(data.validation_images))
    return changed


def _augments(data: TrainingData, train: TrainParams) -> bool:
    """Whether any image that is trained on differs from step to step."""
    if train.labeled_augment != "none" or train.image_size is not None:
        return True
    if not has_pseudo_labels(data) or train.unlabeled_ratio == 0:
        return False
    return train.unlabeled_augment != "none" or train.online is not None


def _feature_gib(data: TrainingData, width: int) -> float:
    sets = (data.images, data.unlabeled_images, data.validation_images)
    return sum(len(images) for images in sets if images is not None) * width * 4 / GIB


@torch.no_grad()
def _body_is_constant(
    network: nn.Module, head: str, data: TrainingData, rate: float, seed: int
) -> bool:
    """Whether in training mode the classifier `head` reads what it does in evaluation mode, but for
    dropout.

    The same noise is drawn for both, so that even which features are dropped must agree.
    """
    worker = Worker(device=next(network.parameters()).device)
    images = normalized(data.images[:PROBED_IMAGES].float() / 255, data).to(worker.device)
    network.eval()
    constant, _ = features_and_logits(network, images)
    same = constant.ndim == 2 and _ends_in(network, head, images, constant)
    training_mode(network)
    for probe in range(PROBES):
        with model_noise(seed, probe, 0, worker.device):
            noisy, _ = features_and_logits(network, images)
        with model_noise(seed, probe, 0, worker.device):
            expected = nn.functional.dropout(constant, rate, training=True)
        same = same and _close(noisy, expected)
    return same


def _ends_in(network: nn.Module, head: str, images: Tensor, constant: Tensor) -> bool:
    """Whether the logits are what the classifier `head` makes of its features, and nothing more.

    Asked with weights of both signs, as its own may be zero.
    """
    classifier = network.get_submodule(head)
    weights = {
        key: torch.linspace(-1, 1, weight.numel(), device=weight.device).view_as(weight)
        for key, weight in classifier.named_parameters()
    }
    named = {f"{head}.{key}": value for key, value in weights.items()}
    logits: Tensor = torch.func.functional_call(network, named, (images,))
    return _close(torch.func.functional_call(classifier, weights, (constant,)), logits)


def _close(first: Tensor, second: Tensor) -> bool:
    scale = float(second.abs().max())
    return first.shape == second.shape and float((first - second).abs().max()) <= 1e-4 * scale
