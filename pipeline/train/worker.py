"""One of the workers that train together, and what it is told and asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


def _interrupted() -> None:
    raise KeyboardInterrupt


@dataclass(frozen=True)
class Worker:
    """One of `world_size` workers that train together; `wrap` joins their gradients (DDP).

    `mean`: the mean over the workers of a tensor that each has. `stop`: whether to end after this
    step, asked of rank 0 alone; `stopped`: what ends it then, its state saved.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network
    mean: Callable[[Tensor], Tensor] = lambda values: values
    stop: Callable[[], bool] = lambda: False
    stopped: Callable[[], None] = _interrupted

    @property
    def rows(self) -> slice:
        """This worker's part of a global batch."""
        return slice(self.rank, None, self.world_size)
