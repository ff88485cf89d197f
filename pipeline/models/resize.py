"""Let a network see images of another size than are stored: smaller ones, so that a student may
see larger, or larger ones, which its weights were trained on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Resize:
    """Called before a network's forward; resizes its images to `side` pixels, bilinearly.

    What shrinks is antialiased. Not a module around the network, so that the names of its weights
    stay the same.
    """

    side: int

    def __call__(self, network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """(images (N, C, S, S),) → (images (N, C, side, side),)."""
        images, *others = inputs
        if images.shape[-1] == self.side:
            return inputs
        size = (self.side, self.side)
        shrinks = images.shape[-1] > self.side
        resized = F.interpolate(images, size, mode="bilinear", antialias=shrinks)
        return (resized, *others)


def resize_inputs(network: nn.Module, side: int) -> None:
    """Have `network` resize what it is given to `side` × `side`, on the device it runs on."""
    network.register_forward_pre_hook(Resize(side))
