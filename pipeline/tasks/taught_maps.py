"""From maps to pseudo-labels: the pixels that are counted, those that are kept, what they teach."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.data.class_maps import IGNORED, Maps, grid, map_columns, map_distributions
from pipeline.data.distributions import sharpen
from pipeline.tasks.task import Choice, Choose, Taught

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.params import SelectParams

SURE = 255  # a probability of 1

# Of each stored probability 255 p of a likeliest class, its logarithm; what rounds to 0 is half a
# step.
LOG_CONFIDENCES = np.log(np.maximum(np.arange(256), 0.5) / 255).astype(np.float16)


def grid_pixels(side: int, most: int) -> NDArray[np.int64]:
    """The numbers of at most so many pixels of a square, in an even grid; row by row."""
    places = grid(side, max(1, isqrt(most)))
    return np.asarray((places[:, None] * side + places).reshape(-1), np.int64)


def teach_maps(maps: Maps, num_classes: int, choose: Choose, select: SelectParams) -> Taught:
    """Maps (N, 4, S, S) where pixels that are not kept are ignored; an image counts where one is.

    Shown of an image: the class that most of its kept pixels have, and the mean confidence of all
    that it has. Overwrites `maps`.
    """
    shown, repeats, reasons = [], np.zeros(len(maps), np.int32), np.zeros(len(maps), np.uint8)
    for row, whole in enumerate(maps):
        known = whole[0] != IGNORED
        labels = np.where(known, whole[0], 0).astype(np.int32).reshape(1, -1)
        choice = choose(np.array([row]), labels, LOG_CONFIDENCES[whole[2].reshape(1, -1)])
        kept = (choice.repeats > 0).reshape(known.shape) & known
        repeats[row], reasons[row] = kept.any(), choice.reasons.reshape(known.shape)[known].min()
        main = np.bincount(whole[0][kept if kept.any() else known]).argmax()
        shown.append((main, whole[2][known].mean() / 255))
        hard = select.label_kind == "hard"
        some = hard_map(whole) if hard else sharpened_map(whole, num_classes, select.temperature)
        maps[row] = selected_map(some, kept)
    found, confidences = np.array(shown).reshape(-1, 2).T
    return Taught(
        map_columns(maps),
        found.astype(np.int32),
        confidences.astype(np.float32),
        Choice(repeats, reasons),
    )


def selected_map(whole: Maps, selected: NDArray[np.bool_]) -> Maps:
    """A map (4, S, S) where what is not selected, (S, S), is ignored."""
    some = whole.copy()
    some[0][~selected] = IGNORED
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


def map_targets(maps: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Maps (N, 4, S, S) as probabilities (N, K, S, S), and how much each pixel counts, (N, S, S):
    as much as it is sure."""
    sure = (maps[:, 2].float() / 255).masked_fill(maps[:, 0] == IGNORED, 0)
    return map_distributions(maps, num_classes), sure
