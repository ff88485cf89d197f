"""A small residual network for small images (8 to 64 pixels)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut (He et al. 2015), skipped at random in training."""

    def __init__(self, inputs: int, outputs: int, stride: int, skip_rate: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.skip_rate = skip_rate

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H / stride, W / stride)."""
        change = self.body(features)
        if self.training and self.skip_rate > 0:
            change = skip_some(change, self.skip_rate)
        return torch.relu(self.shortcut(features) + change)


class SmallResNet(nn.Module):
    """Three stages of residual blocks, `width`, 1.5 and 2 times as wide, then a linear classifier.

    Stochastic depth grows linearly to `stochastic_depth_rate` at the last block (Huang et al.
    2016).
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        width: int,
        depth: int,
        stem_stride: int,
        dropout_rate: float,
        stochastic_depth_rate: float,
    ) -> None:
        super().__init__()
        widths = [width, width, max(1, width * 3 // 2), width * 2]
        num_blocks = 3 * depth
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, stem_stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        blocks: list[nn.Module] = []
        for stage, (inputs, outputs) in enumerate(pairwise(widths)):
            for index in range(depth):
                rate = stochastic_depth_rate * (len(blocks) + 1) / num_blocks
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(ResidualBlock(outputs if index else inputs, outputs, stride, rate))
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout_rate)
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) normalised → logits (N, num_classes)."""
        features = self.blocks(self.stem(images)).mean(dim=(2, 3))
        logits: Tensor = self.classifier(self.dropout(features))
        return logits


def skip_some(change: Tensor, rate: float) -> Tensor:
    """Zero the change of each image with chance `rate`, and scale the others to keep the mean.

    torchvision has the same as an operation, but importing it takes longer than torch.
    """
    kept = change.new_empty(len(change), 1, 1, 1).bernoulli_(1 - rate)
    return change * kept / (1 - rate)
