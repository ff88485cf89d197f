"""In which number format the network's passes compute while it trains."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from pipeline.models.passes import operations, runs_in_bfloat16
from pipeline.params import TrainParams
from pipeline.train.transfer import training_mode

WORTH_CONVERTING = 1e7  # operations an image; a CPU gains nothing on smaller networks


def with_precision(
    train: TrainParams, network: nn.Module, shape: Sequence[int], device: torch.device
) -> TrainParams:
    """`train` with the number format that its `precision: auto` comes to.

    The network is on its device, and left in training mode; shape: of an image, (C, S, S). What is
    chosen hangs on network, shape and the kind of machine alone.
    On a CPU depthwise convolutions keep float32: a step of EfficientNet-Lite0 takes twice as long
    in bfloat16, as their backward passes are slow in it.
    """
    if train.precision != "auto":
        return train
    network.eval()
    worth = device.type == "cuda" or _gains_on_cpu(network, shape)
    half = worth and runs_in_bfloat16(network, shape)
    training_mode(network)
    return train.model_copy(update={"precision": "bfloat16" if half else "float32"})


def _gains_on_cpu(network: nn.Module, shape: Sequence[int]) -> bool:
    depthwise = any(
        isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.in_channels
        for layer in network.modules()
    )
    return not depthwise and operations(network, shape) >= WORTH_CONVERTING


def passes_in(precision: str, device: torch.device) -> torch.autocast:
    """In the block the network's passes compute in `precision`, float32 or bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
