"""Any network as an ordered body and its classifier, so that each part can be trained its own way.

Modules are taken in the order in which a network registers them, which is the order in which ours
and those of torchvision and timm run. A stage is what stands at the top level; a container that is
not one of a numbered row (`features`, `blocks`, but not `layer1`) counts by its members.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.models.dense import Dense

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
LEAST_MEMBERS = 3  # a container of fewer is one stage, as a stem of convolution and normalisation
BULK = 0.5  # share of the weights beyond which a module that is no container is taken apart


@dataclass(frozen=True)
class Parts:
    """The names of the modules (or of single weights that a larger module holds) of each part.

    `stages`: the body, input side first; `head`: the final classifier, of a dense network with the
    decoder before it. Every parameter of the
    network is under exactly one of the names.
    """

    stages: tuple[tuple[str, ...], ...]
    head: tuple[str, ...]

    def stage_of(self, parameter: str) -> int | None:
        """The number of the stage that a parameter is in, from 0; None for the head."""
        for number, names in enumerate(self.stages):
            if any(_under(parameter, name) for name in names):
                return number
        if any(_under(parameter, name) for name in self.head):
            return None
        raise KeyError(parameter)


def network_parts(network: nn.Module) -> Parts:
    """The parts of `network`; raises ModelError where it ends in no classifier."""
    body, path, head = network, "", head_names(network)
    if isinstance(network, Dense):
        body, path, head = network.body, "body", ("head",)
    total = sum(weight.numel() for weight in body.parameters())
    stages: list[list[str]] = []
    pending: list[str] = []  # weights before the first stage that does something
    for name in _units(body, path, head, total):
        if _is_transform(network, name):
            stages.append([*pending, name])
            pending = []
        else:
            (stages[-1] if stages else pending).append(name)
    if pending:
        stages.append(pending)
    return Parts(tuple(tuple(stage) for stage in stages), head)


def head_names(network: nn.Module) -> tuple[str, ...]:
    """The names of the modules that make the logits: timm says so, else the last that could."""
    by_identity = {id(module): name for name, module in network.named_modules()}
    if hasattr(network, "get_classifier"):
        get_classifier: Any = network.get_classifier
        classifier = get_classifier()
        modules = classifier if isinstance(classifier, tuple | list) else (classifier,)
        names = tuple(by_identity[id(m)] for m in modules if id(m) in by_identity and _holds(m))
        if names:
            return names
    last = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and _holds(module)
    ]
    if not last:
        raise ModelError(f"{type(network).__name__} ends in no linear or convolutional classifier")
    return (last[-1],)


def features(network: nn.Module, images: Tensor) -> Tensor:
    """What the classifier reads for each image: (N, C, H, W) normalised → (N, F) float32.

    The network runs in the mode it is in. What has a height and a width is averaged over them.
    """
    with features_read(network) as read:
        network(images)
    return read[0]


@contextmanager
def features_read(network: nn.Module) -> Iterator[list[Tensor]]:
    """The features (N, F) float32 that the classifier reads in each pass made meanwhile."""
    read: list[Tensor] = []

    def append(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].float()
        read.append(values.flatten(2).mean(dim=2) if values.ndim > 2 else values)

    head = network.get_submodule(head_names(network)[0])
    handle = head.register_forward_pre_hook(append)
    try:
        yield read
    finally:
        handle.remove()


def mean_features(read: Sequence[Tensor], count: int, num_views: int) -> Tensor:
    """What features_read has kept of so many images, the mean over their views: (count, F).

    read: of each batch its views one after the other; a batch may have been filled up at its end.
    """
    parts: list[Tensor] = []
    for start in range(0, len(read), num_views):
        whole = torch.stack(list(read[start : start + num_views])).mean(dim=0)
        parts.append(whole[: count - sum(map(len, parts))])
    return torch.cat(parts).cpu()


@torch.no_grad()
def batched_features(
    network: nn.Module,
    images: Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int = 256,
) -> Tensor:
    """The features of images (N, C, S, S) uint8 in evaluation mode: (N, F) float32.

    mean, std: per channel, of pixels in [0, 1]. The network is left in the mode it was in.
    """
    shift, scale = (torch.tensor(v, device=images.device).view(1, -1, 1, 1) for v in (mean, std))
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        parts = [
            features(network, (batch.float() / 255 - shift) / scale)
            for batch in torch.split(images, batch_size)
        ]
    finally:
        for module, training in modes.items():
            module.training = training
    return torch.cat(parts)


def _units(module: nn.Module, path: str, head: tuple[str, ...], total: int) -> Iterator[str]:
    """The names of the parts of `module` that stay whole, without the head, in order."""
    for name, _ in module.named_parameters(recurse=False):
        yield _joined(path, name)
    for name, child in module.named_children():
        inner = _joined(path, name)
        if inner in head or not _holds(child):
            continue
        holds_head = any(_under(part, inner) for part in head)
        if holds_head or _is_divided(child, name, total):
            yield from _units(child, inner, head, total)
        else:
            yield inner


def _is_divided(module: nn.Module, name: str, total: int) -> bool:
    members = [child for child in module.children() if _holds(child)]
    if isinstance(module, CONTAINERS):
        return not name[-1].isdigit() and len(members) >= LEAST_MEMBERS
    size = sum(weight.numel() for weight in module.parameters())
    nested = any(isinstance(child, CONTAINERS) for child in members)
    return nested and not name[-1].isdigit() and size > BULK * total


def _is_transform(network: nn.Module, name: str) -> bool:
    """Whether the named part does more than add to or normalise what it reads."""
    parent, _, leaf = name.rpartition(".")
    if leaf in dict(network.get_submodule(parent).named_parameters(recurse=False)):
        return False
    return any(weight.ndim >= 2 for weight in network.get_submodule(name).parameters())


def _holds(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _under(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")
