"""One class a pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.data.class_maps import IGNORED, pack_maps, pack_masks, read_masks
from pipeline.data.decoding import decode_masks
from pipeline.data.images import Pixels
from pipeline.data.masks import MaskOf
from pipeline.data.preparation.targets import Encoded
from pipeline.tasks.task import Array, Scores

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.augment import Draws
    from pipeline.augment.warp import Warp
    from pipeline.data.images import StoredImage
    from pipeline.params import AugmentParams, DataParams

CLASSIFIED = 32  # pixels along a side of the grid that calibration is measured on


class Segmentation:
    """Targets (N, S, S) uint8, IGNORED where unknown; predictions and pseudo-labels are maps
    (N, 4, S, S) of pipeline.data.class_maps; evidence (N, K, 3) int64: of each class the pixels
    that are both predicted and true, those predicted, and those true, of pixels that count."""

    name = "segmentation"
    score, score_words, unit = "miou", "mean IoU", "pixel"
    image_classes, keeps_whole = False, True
    target = pa.field("mask", pa.binary())

    # data

    def encode(
        self,
        labels: Sequence[Any],
        images: Sequence[StoredImage],
        data: DataParams,
        num_classes: int,
    ) -> list[Encoded | str]:
        """The files of masks, in the square of their images; what a mask says is one key."""
        answers: list[Encoded | str] = []
        pairs = zip(labels, images, strict=True)
        for (values, others), group in groupby(
            pairs, lambda pair: (pair[0].values, pair[0].others)
        ):
            files = [
                MaskOf(label.data, image.width, image.height, image.turn) for label, image in group
            ]
            form = {"side": data.image_size, "max_pixels": data.max_pixels, "others": others}
            masks = decode_masks(files, values=values, **form)
            answers += [mask if isinstance(mask, str) else _encoded(mask) for mask in masks]
        return answers

    def load(self, column: Any, side: int) -> Array:
        """Masks (N, S, S), all ignored where null."""
        return read_masks(column, side, "masks")

    # learning

    def class_shares(self, targets: Tensor, num_classes: int) -> Tensor:
        """Of the pixels that are known."""
        counts = targets[targets != IGNORED].long().bincount(minlength=num_classes)
        return counts.float() / counts.sum().clamp(min=1)

    def classes(self, targets: Tensor) -> Tensor:
        """(N, S, S) int64, -100 where ignored."""
        return targets.long().masked_fill(targets == IGNORED, -100)

    def warp(self, targets: Tensor, warp: Warp) -> Tensor:
        """By the nearest pixel; what comes from outside is ignored."""
        raise NotImplementedError

    def mix(
        self,
        images: Tensor,
        targets: Sequence[Tensor],
        draws: Draws,
        augment: AugmentParams,
        num_classes: int,
    ) -> tuple[Tensor, list[Tensor]]:
        """CutMix: what is pasted brings its pixels' classes along."""
        raise NotImplementedError

    def taught(self, targets: Tensor, num_classes: int) -> tuple[Tensor, Tensor | None]:
        """The two likeliest classes of each pixel; a pixel counts as much as it is sure."""
        raise NotImplementedError

    # predicting

    def undo(self, scores: Tensor, undo: Callable[[Tensor], Tensor]) -> Tensor:
        """Moved back."""
        return undo(scores)

    def pack(self, log_probs: Tensor) -> Array:
        """Maps."""
        return pack_maps(log_probs)

    # judging

    def evidence(self, predictions: Array, targets: Array, num_classes: int) -> Array:
        """(N, K, 3) int64."""
        raise NotImplementedError

    def scores(self, evidence: Array) -> Scores:
        """Mean intersection over union of the classes that the images show, and that of each."""
        raise NotImplementedError


def _encoded(mask: Pixels) -> Encoded:
    """A mask (S, S) as its PNG."""
    key = int.from_bytes(sha256(mask.tobytes()).digest()[:8]) >> 1
    present = tuple(np.setdiff1d(mask, [IGNORED]).tolist())
    return Encoded(pack_masks([mask])[0], key, present)


TASK = Segmentation()
