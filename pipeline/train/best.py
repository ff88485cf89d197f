"""The best weights of a run so far, by validation accuracy, and when to stop waiting for better."""

from __future__ import annotations

import torch
from torch import Tensor


class BestWeights:
    """A copy of the weights at the best validation so far; of equals the latest.

    `state`: the tensors that a resumed run needs, changed in place.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.tensors = {key: value.clone() for key, value in weights.items()}
        self._accuracy = torch.tensor(-1.0, dtype=torch.float64)
        self._stale = torch.tensor(0)

    @property
    def state(self) -> dict[str, Tensor]:
        """By name; put back with `copy_`."""
        counters = {"accuracy": self._accuracy, "stale": self._stale}
        return {f"weights/{key}": value for key, value in self.tensors.items()} | counters

    def offer(self, weights: dict[str, Tensor], accuracy: float) -> int:
        """Keep a copy of `weights` where no earlier ones were more accurate.

        Returns how many in a row have been no better than the best before them.
        """
        best = self._accuracy.item()
        if accuracy > best:
            self._stale.zero_()
        else:
            self._stale += 1
        if accuracy >= best:
            self._accuracy.fill_(accuracy)
            for key, value in weights.items():
                self.tensors[key].copy_(value)
        return int(self._stale)
