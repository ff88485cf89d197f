"""From maps to pseudo-labels: of an image the pixels that are counted, and those that are kept."""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from pipeline.data.class_maps import IGNORED, Maps, grid
from pipeline.data.distributions import sharpen

SURE = 255  # a probability of 1

# Of each stored probability 255 p of a likeliest class, its logarithm; what rounds to 0 is half a
# step.
LOG_CONFIDENCES = np.log(np.maximum(np.arange(256), 0.5) / 255).astype(np.float16)


def grid_pixels(side: int, most: int) -> NDArray[np.int64]:
    """The numbers of at most so many pixels of a square, in an even grid; row by row."""
    places = grid(side, max(1, isqrt(most)))
    return np.asarray((places[:, None] * side + places).reshape(-1), np.int64)


def kept_map(whole: Maps, kept: NDArray[np.bool_]) -> Maps:
    """A map (4, S, S) where what is not kept, (S, S), is ignored."""
    some = whole.copy()
    some[0][~kept] = IGNORED
    return some


def hard_map(whole: Maps) -> Maps:
    """A map (4, S, S) that is sure of its likeliest classes."""
    hard = np.zeros_like(whole)
    hard[0], hard[2] = whole[0], SURE
    return hard


def sharpened_map(whole: Maps, num_classes: int, temperature: float) -> Maps:
    """A map (4, S, S) with probabilities to the power 1 / temperature, of sum 1 again.

    What the two likeliest classes leave is shared equally by the others, as map_probabilities says.
    """
    if temperature == 1:
        return whole
    counts = np.array([1, 1, num_classes - 2], np.float32)[: min(3, num_classes)]
    two = whole[2:].reshape(2, -1) / np.float32(255)
    rest = (1 - two.sum(axis=0)).clip(0) / np.float32(max(1, num_classes - 2))
    shares = np.stack([*two, rest][: len(counts)], axis=1)
    sharp = sharpen(shares, temperature, counts)[:, :2].T.reshape(whole[2:].shape)
    return np.concatenate([whole[:2], np.rint(sharp * 255).astype(np.uint8)])


def shown_class(whole: Maps, shown: NDArray[np.bool_]) -> tuple[int, float]:
    """The class that most of the pixels `shown`, (S, S), have, and their mean confidence."""
    classes = whole[0][shown]
    label = int(np.bincount(classes).argmax())
    return label, float(whole[2][shown][classes == label].mean() / 255)
