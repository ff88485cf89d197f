"""Wide residual networks for 32×32 images (WRN-d-k, Zagoruyko & Komodakis 2016)."""

from __future__ import annotations

import re
from itertools import pairwise

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.models.small_resnet import skip_some


def depth_and_width(name: str) -> tuple[int, int] | None:
    """(d, k) of `wrn_d_k`, None for another name.

    Raises ModelError for a depth that is not 6n + 4.
    """
    if not (match := re.fullmatch(r"wrn_(\d+)_(\d+)", name)):
        return None
    depth, width = int(match[1]), int(match[2])
    if depth < 10 or (depth - 4) % 6 or width < 1:
        near = max(10, 6 * round((depth - 4) / 6) + 4)
        raise ModelError(
            f"model.name = {name!r}: the depth is 6n + 4 and the width at least 1, "
            f"as in wrn_{near}_{max(1, width)}"
        )
    return depth, width


class WideBlock(nn.Module):
    """Two 3×3 convolutions, each after its normalisation, with dropout between them (fig. 1d)."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, dropout_rate: float, skip_rate: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(dropout_rate)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.skip_rate = skip_rate

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H / stride, W / stride)."""
        active = torch.relu(self.norm1(features))
        change: Tensor = self.conv1(active)
        change = self.conv2(self.dropout(torch.relu(self.norm2(change))))
        if self.training and self.skip_rate > 0:
            change = skip_some(change, self.skip_rate)
        kept: Tensor = features if self.shortcut is None else self.shortcut(active)
        return kept + change


class WideResNet(nn.Module):
    """Three stages of (depth - 4) / 6 blocks of 16, 32 and 64 times `width` channels.

    Dropout is in every block, where the paper has it. Stochastic depth grows linearly to
    `stochastic_depth_rate` at the last block (Huang et al. 2016).
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        depth: int,
        width: int,
        dropout_rate: float,
        stochastic_depth_rate: float,
    ) -> None:
        super().__init__()
        per_stage = (depth - 4) // 6
        widths = [16, 16 * width, 32 * width, 64 * width]
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        for stage, (inputs, outputs) in enumerate(pairwise(widths)):
            for index in range(per_stage):
                skip = stochastic_depth_rate * (len(blocks) + 1) / (3 * per_stage)
                stride = 2 if stage > 0 and index == 0 else 1
                block = WideBlock(outputs if index else inputs, outputs, stride, dropout_rate, skip)
                blocks.append(block)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.classifier = nn.Linear(widths[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He et al. 2015, as the authors' code
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) normalised → logits (N, num_classes)."""
        features = torch.relu(self.norm(self.blocks(self.stem(images))))
        logits: Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits
