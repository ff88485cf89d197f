"""The learning rate over a run."""

from __future__ import annotations

import math


def warmup_cosine(step: int, steps: int, warmup_fraction: float) -> float:
    """Factor of the learning rate at `step` in [0, steps): linear warm-up, then half a cosine to 0.

    Loshchilov & Hutter 2017, eq. 5, without restarts.
    """
    warmup = round(steps * warmup_fraction)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))
