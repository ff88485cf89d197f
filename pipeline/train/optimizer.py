"""The optimizer, with weight decay where it belongs."""

from __future__ import annotations

from typing import Literal

from torch import nn, optim


def build_optimizer(
    network: nn.Module,
    name: Literal["adamw", "sgd"],
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
) -> optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019) or SGD with Nesterov momentum.

    Biases and normalisation (parameters of fewer than two dimensions) are not decayed.
    """
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    groups = [
        {"params": [w for w in weights if w.ndim >= 2], "weight_decay": weight_decay},
        {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},
    ]
    if name == "adamw":
        return optim.AdamW(groups, lr=learning_rate, fused=True)
    return optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0, fused=True)
