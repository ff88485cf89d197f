"""The random numbers of a network's own noise: dropout and stochastic depth draw from torch's
default generator, which is seeded anew for every step so that a stopped run goes on exactly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def model_noise(seed: int, step: int, rank: int, device: torch.device) -> Iterator[None]:
    """In the block the default generators draw what (seed, step, rank) decides.

    Afterwards they are as they were before.
    """
    sequence = np.random.SeedSequence([2, seed, step, rank])  # 0 and 1 are the batches' streams
    noise = int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(noise)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(noise)
        yield
