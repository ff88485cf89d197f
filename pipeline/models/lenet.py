"""LeNet-5 (LeCun et al. 1998, sec. II-B), in the form that all of today's libraries use."""

from __future__ import annotations

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
        features = F.avg_pool2d(torch.tanh(self.c1(_padded(images))), 2)
        features = F.avg_pool2d(torch.tanh(self.c3(features)), 2)
        features = torch.tanh(self.c5(features)).mean(dim=(2, 3))
        logits: Tensor = self.classifier(self.dropout(torch.tanh(self.f6(features))))
        return logits


def _padded(images: Tensor) -> Tensor:
    """Images of at least 32 pixels a side: smaller ones get their border repeated."""
    missing = max(0, SIDE - images.shape[-1])
    if not missing:
        return images
    before, after = missing // 2, missing - missing // 2
    return F.pad(images, (before, after, before, after), mode="replicate")
