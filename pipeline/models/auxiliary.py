"""Auxiliary classifiers: heads in the middle of a network that are used in training and dropped.

A network that has them returns a tuple in training mode, (logits, auxiliary logits, …), and plain
logits in evaluation mode.
"""

from __future__ import annotations

from torch import Tensor, nn

AUXILIARY_WEIGHT = 0.3  # of each auxiliary loss (Szegedy et al. 2015, sec. 5)


def all_logits(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The logits (N, K) of every head of a network in training mode, the main one first."""
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def total_loss(losses: list[Tensor]) -> Tensor:
    """The main head's loss, which comes first, plus 0.3 times each auxiliary one."""
    main, *auxiliary = losses
    return main + AUXILIARY_WEIGHT * sum(auxiliary) if auxiliary else main


def drop_auxiliary(network: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take the auxiliary classifiers out of `network`; returns `weights` without theirs."""
    if getattr(network, "aux_logits", False):
        setattr(network, "aux_logits", False)  # noqa: B010
        for name in [name for name, _ in network.named_children() if name.startswith("aux")]:
            setattr(network, name, None)
    return {key: weights[key] for key in network.state_dict()}
