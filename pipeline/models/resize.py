"""Let a network see smaller images than are stored, so that a student may see larger ones."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Resize:
    """Called before a network's forward; resizes its images to `side` pixels, antialiased.

    Not a module around the network, so that the names of its weights stay the same.
    """

    side: int

    def __call__(self, network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """(images (N, C, S, S),) → (images (N, C, side, side),)."""
        images, *others = inputs
        if images.shape[-1] == self.side:
            return inputs
        size = (self.side, self.side)
        small = F.interpolate(images, size, mode="bilinear", antialias=True)
        return (small, *others)


def resize_inputs(network: nn.Module, side: int) -> None:
    """Have `network` resize what it is given to `side` × `side`, on the device it runs on."""
    network.register_forward_pre_hook(Resize(side))
