"""The optimizer and the schedule of its learning rate."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn, optim

from pipeline.params import TrainParams


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
        for decay, part in (
            (weight_decay, [w for w in weights if w.ndim >= 2]),
            (0.0, [w for w in weights if w.ndim < 2]),
        ):
            groups.append({"params": part, "weight_decay": decay, "share": share})
    return groups


def _uncompiled(kind: type[optim.Optimizer]) -> type[optim.Optimizer]:
    """The optimizer without what it wraps its methods in for torch.compile.

    Importing the compiler takes a second, and torch does so at the first call of any of them.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    plain: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    plain["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), plain)


def warmup_cosine(step: int, steps: int, warmup_fraction: float) -> float:
    """Factor of the learning rate at `step` in [0, steps): linear warm-up, then half a cosine to 0.

    Loshchilov & Hutter 2017, eq. 5, without restarts.
    """
    warmup = round(steps * warmup_fraction)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))


def phase(train: TrainParams, step: int) -> tuple[TrainParams, float]:
    """The parameters in force at `step` and its learning rate.

    The last `train.finetune_steps` are on un-augmented labelled images at the stored size
    (Touvron et al. 2019, sec. 4: fine-tuning at test resolution).
    """
    main = train.steps - train.finetune_steps
    if step < main:
        return train, train.learning_rate * warmup_cosine(step, main, train.warmup_fraction)
    plain = {"labeled_augment": "none", "unlabeled_ratio": 0, "image_size": None}
    rate = train.finetune_learning_rate * warmup_cosine(step - main, train.finetune_steps, 0.0)
    return train.model_copy(update=plain), rate
