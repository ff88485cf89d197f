"""Weights beside those in training: their moving average, and the best so far."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.train.transfer import training_mode


class WeightAverage:
    """Keeps average ← d · average + (1 - d) · weights, over parameters and buffers alike.

    d = min(decay, (1 + step) / (10 + step)), so that the random start is soon forgotten
    (Tarvainen & Valpola 2017). Whole-number buffers are copied. decay 0 keeps the last weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {key: value.clone() for key, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after `step` (0 for the first)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages: list[Tensor] = []
        weights: list[Tensor] = []
        for key, value in network.state_dict().items():
            if value.is_floating_point():
                averages.append(self.tensors[key])
                weights.append(value)
            else:
                self.tensors[key].copy_(value)
        torch._foreach_lerp_(averages, weights, 1 - decay)


@torch.no_grad()
def averaged_logits(network: nn.Module, weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """What `network` says with other weights and no noise: (n, C, S, S) normalised → (n, K, …).

    The network keeps its own weights and is left in training mode.
    """
    network.eval()
    logits: Tensor = torch.func.functional_call(network, weights, (images,))
    training_mode(network)
    return logits


class BestWeights:
    """A copy of the weights at the best validation so far; of equals the latest.

    `state`: the tensors that a resumed run needs, changed in place.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.tensors = {key: value.clone() for key, value in weights.items()}
        self._score = torch.tensor(-1.0, dtype=torch.float64)
        self._stale = torch.tensor(0)

    @property
    def state(self) -> dict[str, Tensor]:
        """By name; put back with `copy_`."""
        counters = {"accuracy": self._score, "stale": self._stale}
        return {f"weights/{key}": value for key, value in self.tensors.items()} | counters

    def offer(self, weights: dict[str, Tensor], score: float) -> int:
        """Keep a copy of `weights` where no earlier ones had a higher score.

        Returns how many in a row have been no better than the best before them.
        """
        best = self._score.item()
        if score > best:
            self._stale.zero_()
        else:
            self._stale += 1
        if score >= best:
            self._score.fill_(score)
            for key, value in weights.items():
                self.tensors[key].copy_(value)
        return int(self._stale)
