"""Confidences as levels: how sure a stored prediction is has few different values, so they count.

A float16 log-probability takes fewer than 2¹⁵ values, whose confidences are fewer still: a count
for each level and class says all about the order of any number of predictions.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

FINITE = 0x7C00  # the bits of the least float16 that is not finite
MAGNITUDE = 0x7FFF
NO_LEVEL = 0xFFFF


@lru_cache(maxsize=1)
def level_confidences() -> NDArray[np.float32]:
    """The confidence of each level, (L,): from 1 downwards, all different."""
    return _of_bits()[0]


def levels_of(log_confidences: NDArray[np.float16]) -> NDArray[np.uint16]:
    """The level of each, (n,); NO_LEVEL for what is not finite. Above 0, by rounding, is 0."""
    bits = np.minimum(log_confidences, np.float16(0)).view(np.uint16) & np.uint16(MAGNITUDE)
    levels: NDArray[np.uint16] = _of_bits()[1][bits]
    return levels


def no_counts(num_classes: int) -> NDArray[np.uint32]:
    """Room to count predictions of each class and level: (K, L) zeros."""
    return np.zeros((num_classes, len(level_confidences())), np.uint32)


def count_levels(
    labels: NDArray[np.int32], levels: NDArray[np.uint16]
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Which class and level, as label × L + level, come how often: places and counts.

    For up to 199,000 classes, which is more than there may be.
    """
    codes = labels.astype(np.uint32) * np.uint32(len(level_confidences())) + levels
    return np.unique(codes, return_counts=True)


@lru_cache(maxsize=1)
def _of_bits() -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """The confidences, and the level of each float16 magnitude by its bits."""
    log_probs = -np.arange(FINITE, dtype=np.uint16).view(np.float16).astype(np.float32)
    all_confidences = np.exp(log_probs)
    confidences = np.unique(all_confidences)[::-1].copy()
    levels = np.full(MAGNITUDE + 1, NO_LEVEL, np.uint16)
    levels[:FINITE] = np.searchsorted(-confidences, -all_confidences)
    for array in (confidences, levels):
        array.setflags(write=False)
    return confidences, levels
