"""Start a network from other weights, and say which of its own may move, and how fast.

Two ways (transfer.mode): full, all weights move (fine-tuning); layerwise, the body moves slower
than the classifier, and its first stages slowest (Howard & Ruder 2018, sec. 3.2; the decay by a
factor a layer is that of Clark et al. 2020). In both the first stages may stay as they are
(frozen_stages; Yosinski et al. 2014). A classifier on a body that stays as it is:
pipeline.train.head.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pipeline.errors import ParameterError
from pipeline.models.packaged import packaged_digest, read_packaged
from pipeline.models.parts import Parts, head_names, network_parts
from pipeline.models.pretrained import (
    Weights,
    load_weights,
    path_digest,
    read_file,
    read_folder,
    read_hub,
)

NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Source:
    """Where weights come from: `name` as the parameter says it, `path` if it is on disk.

    `digest`: what names the weights, for the fingerprint of a run.
    """

    name: str
    path: Path | None
    digest: str


def find_source(
    name: str | None,
    *,
    sha256: str | None,
    root: Path,
    teacher: Path | None,
    section: str = "transfer",
) -> Source | None:
    """What `source` = `name` of a section means, looked at before any work; None for random
    weights.

    Paths are relative to `root`; `teacher`: the folder of the generation before. Raises
    ParameterError where a path's SHA-256 is not `sha256`, CheckpointError where there is nothing.
    """
    if name is None:
        return None
    if name == "teacher":
        assert teacher is not None  # Params refuses it for generation 0
        return Source(name, teacher, path_digest(teacher))
    if name == "packaged":
        return Source(name, None, packaged_digest())
    if name in ("timm", "torchvision"):
        from importlib.metadata import version

        return Source(name, None, f"{name} {version(name)}")
    path = root / name
    digest = path_digest(path, section)
    if digest != sha256:
        raise ParameterError(
            f"{section}.sha256 = {sha256!r}: '{name}' is {digest}; set that if these are the "
            "weights you mean"
        )
    return Source(name, path, digest)


def read_source(name: str, path: Path | None, model_name: str) -> Weights:
    """The weights of a source; `model_name`: the network that a hub's or a file's are of."""
    if path is None:
        return read_packaged(model_name) if name == "packaged" else read_hub(name, model_name)
    return read_folder(path) if path.is_dir() else read_file(path, model_name)


def start_from(
    network: nn.Module,
    weights: Weights,
    *,
    source: str,
    classes: list[str],
    frozen_stages: int = 0,
    freeze_statistics: bool = False,
) -> None:
    """Load `weights` into `network` and freeze its first stages, and the statistics if asked to.

    The classifier is loaded where the classes are the same; one that is not starts at zero.
    """
    same = weights.classes is not None and list(weights.classes) == classes
    fitted = load_weights(network, weights, head=same, source=source)
    for name in head_names(network):
        keys = {f"{name}.{key}" for key, _ in network.get_submodule(name).named_parameters()}
        if not keys <= set(fitted.loaded):
            zero_classifier(network, name)
    freeze(network, network_parts(network), frozen_stages)
    if freeze_statistics:
        keep_statistics(network, fitted.loaded)


@torch.no_grad()
def zero_classifier(network: nn.Module, name: str) -> None:
    """Have the classifier `name` find all K classes alike, so that the first loss is ln K.

    A ReLU after it (SqueezeNet) passes no gradient at 0, and gets a bias of 1 to stay above.
    """
    for weight in network.get_submodule(name).parameters():
        weight.zero_()
    parent, _, leaf = name.rpartition(".")
    siblings = dict(network.get_submodule(parent).named_children())
    following = list(siblings)[list(siblings).index(leaf) + 1 :]
    if following and isinstance(siblings[following[0]], nn.ReLU):
        network.get_parameter(f"{name}.bias").fill_(1.0)


def keep_statistics(network: nn.Module, loaded: Collection[str]) -> None:
    """Keep the running statistics of batch normalisation that are among `loaded`, names of weights.

    Their momentum becomes 0, with which nothing moves them; by it `training_mode` knows them.
    """
    for name, module in network.named_modules():
        if isinstance(module, NORMALISATIONS) and f"{name}.running_mean" in loaded:
            module.momentum = 0.0


def freeze(network: nn.Module, parts: Parts, frozen_stages: int) -> None:
    """Keep the weights of the first `frozen_stages` stages from training.

    Raises ParameterError where there are fewer.
    """
    if frozen_stages > len(parts.stages):
        raise ParameterError(
            f"transfer.frozen_stages = {frozen_stages}: the network has {len(parts.stages)} "
            "stages before its classifier"
        )
    frozen = {name for stage in parts.stages[:frozen_stages] for name in stage}
    for key, weight in network.named_parameters():
        if any(key == name or key.startswith(f"{name}.") for name in frozen):
            weight.requires_grad_(False)


def layer_rates(
    network: nn.Module, *, body_learning_rate: float, layer_decay: float
) -> dict[str, float]:
    """The learning rate of each weight as a share of the classifier's, by name (mode layerwise).

    Of n stages the last has `body_learning_rate`, and each one before it `layer_decay` times the
    next.
    """
    parts = network_parts(network)
    rates = {}
    for key, _ in network.named_parameters():
        stage = parts.stage_of(key)
        depth = 0 if stage is None else len(parts.stages) - 1 - stage
        rates[key] = 1.0 if stage is None else body_learning_rate * layer_decay**depth
    return rates


def training_mode(network: nn.Module) -> None:
    """Put `network` in training mode, but frozen layers and kept statistics in evaluation mode.

    So the statistics of a frozen batch normalisation stay as they were learnt; where they alone
    are kept (momentum 0), its weights still train. Dropout and stochastic depth have no weights
    and stay noisy.
    """
    network.train()
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        frozen = own and not any(weight.requires_grad for weight in own)
        if frozen or (isinstance(module, NORMALISATIONS) and module.momentum == 0):
            module.eval()
