"""Deformable convolution: each output looks where it wants to (Dai et al. 2017, Zhu et al. 2019).

Imported only where it is asked for, since torchvision is slow to import.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import DeformConv2d, deform_conv2d


class DeformableConv2d(DeformConv2d):  # type: ignore[misc]
    """A convolution whose taps are moved and weighted by what a second one sees.

    The second one starts at zero, so that the whole starts as the plain convolution it replaces:
    the weights are 2 · sigmoid, 1 at the start, where Zhu et al. 2019 have sigmoid, 1/2.
    """

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__(
            plain.in_channels,
            plain.out_channels,
            plain.kernel_size,
            plain.stride,
            plain.padding,
            plain.dilation,
            plain.groups,
            bias=plain.bias is not None,
        )
        self.weight, self.bias = plain.weight, plain.bias
        self.taps = plain.kernel_size[0] * plain.kernel_size[1]
        self.look = nn.Conv2d(
            plain.in_channels,
            3 * self.taps,
            plain.kernel_size,  # type: ignore[arg-type]
            plain.stride,  # type: ignore[arg-type]
            plain.padding,  # type: ignore[arg-type]
            plain.dilation,  # type: ignore[arg-type]
        )
        for weight in self.look.parameters():
            nn.init.zeros_(weight)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H / stride, W / stride) float32: bfloat16 has no kernel
        on CPUs."""
        features = features.float()
        offsets, weights = self.look(features).float().split([2 * self.taps, self.taps], dim=1)
        moved: Tensor = deform_conv2d(
            features.contiguous(),
            offsets.contiguous(),
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            2 * torch.sigmoid(weights).contiguous(),
        )
        return moved


def deform_last_stage(network: nn.Module) -> None:
    """Replace every 3×3 convolution in `layer4` of a ResNet by a deformable one."""
    stage = network.get_submodule("layer4")
    for path, module in list(stage.named_modules()):
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            parent, _, leaf = path.rpartition(".")
            setattr(stage.get_submodule(parent), leaf, DeformableConv2d(module))
