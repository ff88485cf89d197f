"""The optimizer, with weight decay where it belongs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

import torch
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
    kind: Any = _uncompiled(optim.AdamW if name == "adamw" else optim.SGD)
    more = {} if name == "adamw" else {"momentum": momentum, "nesterov": momentum > 0}
    made: optim.Optimizer = kind(groups, lr=learning_rate, fused=True, **more)
    return made


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


def _uncompiled(kind: type[optim.Optimizer]) -> type[optim.Optimizer]:
    """The optimizer without what it wraps its methods in for torch.compile.

    Importing the compiler takes a second, and torch does so at the first call of any of them.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    plain: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    plain["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), plain)
