"""The optimizer, with weight decay where it belongs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import nn, optim


def build_optimizer(
    network: nn.Module,
    name: Literal["adamw", "sgd"],
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    rates: Mapping[str, float] | None = None,
) -> optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019) or SGD with Nesterov momentum.

    Biases and normalisation (parameters of fewer than two dimensions) are not decayed.
    `rates`: the learning rate of a weight by name as a share of the whole one, None for all alike.
    """
    groups = _groups(network, weight_decay, rates or {})
    set_learning_rate(groups, learning_rate)
    if name == "adamw":
        return optim.AdamW(groups, lr=learning_rate, fused=True)
    return optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0, fused=True)


def set_learning_rate(groups: list[dict[str, Any]], learning_rate: float) -> None:
    """Give each of an optimizer's groups its share of `learning_rate`."""
    for group in groups:
        group["lr"] = learning_rate * group["share"]


def _groups(
    network: nn.Module, weight_decay: float, rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    """The weights that train, by their share of the learning rate and whether they decay."""
    named = [(key, weight) for key, weight in network.named_parameters() if weight.requires_grad]
    shares = sorted({rates.get(key, 1.0) for key, _ in named}, reverse=True)
    groups: list[dict[str, Any]] = []
    for share in shares:
        weights = [weight for key, weight in named if rates.get(key, 1.0) == share]
        for decay, chosen in (
            (weight_decay, [w for w in weights if w.ndim >= 2]),
            (0.0, [w for w in weights if w.ndim < 2]),
        ):
            groups.append({"params": chosen, "weight_decay": decay, "share": share})
    return groups
