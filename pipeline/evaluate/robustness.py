"""How a model stands common corruptions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pipeline.evaluate.corruption_error import Robustness
from pipeline.evaluate.corruptions import SEVERITIES, corrupt, corruption_names
from pipeline.tasks.metrics import Floats, Integers, correct

# Draws are made for so many consecutive images at a time, whatever the batch of the network.
BLOCK = 512


def measure_robustness(
    predict: Callable[[Tensor], Floats], images: Tensor, labels: Integers, *, seed: int
) -> Robustness:
    """Test a model under every corruption that changes `images`, by `seed`.

    predict: (N, C, S, S) uint8 → log-probabilities (N, K); images: (N, C, S, S) uint8 on the CPU,
    N ≥ 1.
    """

    def accuracy(images: Tensor) -> float:
        return float(correct(predict(images), labels).mean())

    return Robustness(
        images=len(images),
        clean=accuracy(images),
        accuracy={
            name: tuple(accuracy(corrupted(images, name, k, seed=seed)) for k in SEVERITIES)
            for name in corruption_names(images.shape[1])
        },
    )


def passes_an_image(channels: int) -> int:
    """How often measure_robustness predicts an image of so many channels."""
    return 1 + len(SEVERITIES) * len(corruption_names(channels))


def corrupted(images: Tensor, name: str, severity: int, *, seed: int) -> Tensor:
    """`images` (N, C, S, S) uint8 under a corruption; the draws depend on seed, name and place.

    All severities share their draws, so that a higher one is the same accident, only worse.
    """
    parts = []
    for block, start in enumerate(range(0, len(images), BLOCK)):
        entropy = np.random.SeedSequence([seed, block, *name.encode()])
        state = int(entropy.generate_state(1, np.uint64)[0] >> 1)
        generator = torch.Generator().manual_seed(state)
        parts.append(corrupt(images[start : start + BLOCK], name, severity, generator))
    return torch.cat(parts)


def sampled_rows(count: int, most: int, seed: int) -> list[int]:
    """`most` of `count` rows by seed, or all, in rising order."""
    if most >= count:
        return list(range(count))
    return sorted(np.random.default_rng(seed).choice(count, most, replace=False).tolist())
