"""Networks of our own for small images: LeNet, a small ResNet, Wide ResNet."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import ModelError

SIDE = 32  # what the paper's network sees


class LeNet5(nn.Module):
    """Three 5×5 convolutions and two averages, then two linear layers; 61,706 parameters.

    As in the paper the third convolution sees all that is left of a 32×32 image; of a larger one
    it sees several places, which are averaged. C3 is connected to all of S2, the averages have no
    weights, and the last layer is linear: the paper saved arithmetic in the first two, and
    compared with drawn digits in the third.
    """

    def __init__(
        self, num_classes: int, channels: int, dropout_rate: float, stochastic_depth_rate: float
    ) -> None:
        super().__init__()
        if stochastic_depth_rate:
            raise ModelError(
                f"model.stochastic_depth_rate = {stochastic_depth_rate}: lenet5 has no residual "
                "block to skip; set it to 0"
            )
        self.c1 = nn.Conv2d(channels, 6, 5)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.dropout = nn.Dropout(dropout_rate)
        self.classifier = nn.Linear(84, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) normalised → logits (N, num_classes)."""
        features = F.avg_pool2d(torch.tanh(self.c1(framed(images, SIDE))), 2)
        features = F.avg_pool2d(torch.tanh(self.c3(features)), 2)
        features = torch.tanh(self.c5(features)).mean(dim=(2, 3))
        logits: Tensor = self.classifier(self.dropout(torch.tanh(self.f6(features))))
        return logits


def framed(images: Tensor, side: int) -> Tensor:
    """Images of at least `side` pixels a side: smaller ones get their border repeated."""
    missing = max(0, side - images.shape[-1])
    if not missing:
        return images
    before, after = missing // 2, missing - missing // 2
    return F.pad(images, (before, after, before, after), mode="replicate")


def convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A 3×3 convolution, its normalisation and a ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Shortcut(nn.Conv2d):
    """The 1×1 convolution of a shortcut: (N, inputs, H, W) → (N, outputs, H / stride, W / stride).

    oneDNN writes past its buffer where it learns such weights with a stride from fewer than 8
    channels (github.com/uxlfoundation/oneDNN/issues/6035), so the stride is then taken before.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, 1, stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """The features, convolved."""
        if self.in_channels >= 8:
            return super().forward(features)
        step, across = self.stride
        return F.conv2d(features[:, :, ::step, ::across], self.weight)


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
                Shortcut(inputs, outputs, stride), nn.BatchNorm2d(outputs)
            )
        self.skip_rate = skip_rate

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H / stride, W / stride)."""
        change = self.body(features)
        if self.training and self.skip_rate > 0:
            change = skip_some(change, self.skip_rate)
        return torch.relu(self.shortcut(features) + change)


class SmallResNet(nn.Module):
    """Three stages of residual blocks, `width`, 1.5 and 2 times as wide, and a classifier."""

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
        self.stem = convolution(channels, width, stem_stride)
        self.blocks = residual_stages(ResidualBlock, widths, depth, stochastic_depth_rate)
        self.dropout = nn.Dropout(dropout_rate)
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) normalised → logits (N, num_classes)."""
        features = self.blocks(self.stem(images)).mean(dim=(2, 3))
        logits: Tensor = self.classifier(self.dropout(features))
        return logits


def residual_stages(
    block: Callable[[int, int, int, float], nn.Module],
    widths: Sequence[int],
    depth: int,
    skip_rate: float,
    first_stride: int = 1,
) -> nn.Sequential:
    """Stages of `depth` blocks, from one of `widths` to the next; all but the first halve the side,
    which has `first_stride`.

    Stochastic depth grows linearly to `skip_rate` at the last block (Huang et al. 2016).
    """
    blocks: list[nn.Module] = []
    for stage, (inputs, outputs) in enumerate(pairwise(widths)):
        for index in range(depth):
            rate = skip_rate * (len(blocks) + 1) / (depth * (len(widths) - 1))
            stride = 1 if index else 2 if stage else first_stride
            blocks.append(block(outputs if index else inputs, outputs, stride, rate))
    return nn.Sequential(*blocks)


def skip_some(change: Tensor, rate: float) -> Tensor:
    """Zero the change of each image with chance `rate`, and scale the others to keep the mean.

    torchvision has the same as an operation, but importing it takes longer than torch.
    """
    mask = change.new_empty(len(change), 1, 1, 1).bernoulli_(1 - rate)
    return change * mask / (1 - rate)


def depth_and_width(name: str) -> tuple[int, int] | None:
    """(d, k) of `wrn_d_k`, None for another name.

    Raises ModelError for a depth that is not 6n + 4.
    """
    if not (match := re.fullmatch(r"wrn_(\d{1,3})_(\d{1,3})", name)):
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
        self, inputs: int, outputs: int, stride: int, skip_rate: float, dropout_rate: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(dropout_rate)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if inputs != outputs or stride != 1:
            self.shortcut = Shortcut(inputs, outputs, stride)
        self.skip_rate = skip_rate

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H / stride, W / stride)."""
        active = torch.relu(self.norm1(features))
        change: Tensor = self.conv1(active)
        change = self.conv2(self.dropout(torch.relu(self.norm2(change))))
        if self.training and self.skip_rate > 0:
            change = skip_some(change, self.skip_rate)
        shortcut: Tensor = features if self.shortcut is None else self.shortcut(active)
        return shortcut + change


class WideResNet(nn.Module):
    """Three stages of (depth - 4) / 6 blocks of 16, 32 and 64 times `width` channels.

    Dropout is in every block, where the paper has it.
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
        widths = [16, 16 * width, 32 * width, 64 * width]
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        block = partial(WideBlock, dropout_rate=dropout_rate)
        self.blocks = residual_stages(block, widths, (depth - 4) // 6, stochastic_depth_rate)
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
