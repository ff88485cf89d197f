"""One class a pixel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data.class_maps import COLUMNS, IGNORED, pack_maps, palette, read_maps, read_masks
from pipeline.tasks.task import Array, Encoded, Floats, Scores

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
        """The files of masks, in the square of their images."""
        raise NotImplementedError

    def load(self, column: Any, side: int) -> Array:
        """Masks (N, S, S), all ignored where null."""
        return read_masks(column, side, "masks")

    # learning

    def class_counts(self, targets: Tensor, num_classes: int) -> Tensor:
        """Of the pixels that are known."""
        return targets[targets != IGNORED].bincount(minlength=num_classes)

    def classes(self, targets: Tensor) -> Tensor:
        """(N, S, S) int64, -100 where ignored."""
        return targets.long().masked_fill(targets == IGNORED, -100)

    def warp(self, targets: Tensor, warp: Warp) -> Tensor:
        """By the nearest pixel; what is erased or comes from outside is ignored."""
        planes = targets.view(len(targets), -1, *targets.shape[-2:])
        moved, known = warp.apply(planes)
        moved[:, 0].masked_fill_(~known, IGNORED)
        return moved.view_as(targets)

    def mix(
        self,
        images: Tensor,
        targets: Sequence[Tensor],
        draws: Draws,
        augment: AugmentParams,
        num_classes: int,
    ) -> tuple[Tensor, list[Tensor]]:
        """CutMix or ClassMix: what is pasted brings its pixels' classes along."""
        from pipeline.augment.boxes import inside_boxes
        from pipeline.augment.mix import classmix, cutmix_boxes, paste_pixels

        side = targets[0].shape[-1]
        if augment.mix == "cutmix":
            boxes = cutmix_boxes(draws, augment.mix_alpha, side, side)
            return paste_pixels(images, targets, inside_boxes(boxes, side, side))
        if augment.mix == "classmix":
            classes = targets[0].view(len(images), -1, side, side)[:, 0]
            return paste_pixels(images, targets, classmix(classes, draws, num_classes))
        return images, list(targets)

    def taught(self, targets: Tensor, num_classes: int) -> tuple[Tensor, Tensor | None]:
        """The two likeliest classes of each pixel; a pixel counts as much as it is sure."""
        ignored = targets[:, 0] == IGNORED
        first = targets[:, 0].long().masked_fill(ignored, 0)
        second = targets[:, 1].long().clamp(max=num_classes - 1)
        sure, less = targets[:, 2].float() / 255, targets[:, 3].float() / 255
        less = less.masked_fill(second == first, 0)
        rest = (1 - sure - less).clamp(min=0) / max(1, num_classes - 2)
        shares = rest[:, None].repeat(1, num_classes, 1, 1)
        shares.scatter_(1, second[:, None], less[:, None]).scatter_(
            1, first[:, None], sure[:, None]
        )
        return shares / shares.sum(dim=1, keepdim=True), sure.masked_fill(ignored, 0)

    def pseudo_label_schema(self, num_classes: int) -> Any:
        """Of maps."""
        return COLUMNS

    def read_pseudo_labels(
        self, table: Any, num_classes: int, label_kind: str, source: object
    ) -> Array:
        """Maps (N, 4, S, S), of hard labels sure of one class."""
        return read_maps(table, source)

    def as_taught(self, predictions: Array) -> Array:
        """As they are."""
        return predictions

    # predicting

    def undo(self, scores: Tensor, undo: Callable[[Tensor], Tensor]) -> Tensor:
        """Moved back."""
        return undo(scores)

    def pack(self, log_probs: Tensor) -> Array:
        """Maps."""
        return pack_maps(log_probs)

    # showing

    def draw(self, pixels: NDArray[np.uint8], target: Array, num_classes: int) -> NDArray[np.uint8]:
        """Each class in its colour over the image; what is ignored stays."""
        image = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        classes = target.reshape(-1, *target.shape[-2:])[0]
        colours = palette(num_classes)[np.where(classes == IGNORED, 0, classes)]
        blended = (image.astype(np.uint16) + colours) // 2
        return np.where((classes == IGNORED)[..., None], image, blended).astype(np.uint8)

    # judging

    def sample(
        self, log_probs: Tensor, targets: Array, most: int
    ) -> tuple[Floats, NDArray[np.int64]]:
        """Of a grid of pixels those that are known."""
        side = targets.shape[-1]
        count = min(side, CLASSIFIED, max(1, math.isqrt(most)))
        places = (np.arange(count) * 2 + 1) * side // (2 * count)
        true = targets[:, places[:, None], places].astype(np.int64).ravel()
        there = log_probs[:, :, places[:, None], places].movedim(1, -1).flatten(0, -2)
        known = true != IGNORED
        return np.asarray(there.cpu().numpy(), np.float32)[known], true[known]

    def evidence(self, predictions: Array, targets: Array, num_classes: int) -> Array:
        """(N, K, 3) int64."""
        parts = np.zeros((len(targets), num_classes, 3), np.int64)
        for place, said, true in zip(parts, predictions[:, 0], targets, strict=True):
            known = true != IGNORED
            said, true = said[known], true[known]
            for column, classes in enumerate((said[said == true], said, true)):
                place[:, column] = np.bincount(classes, minlength=num_classes)[:num_classes]
        return parts

    def scores(self, evidence: Array) -> Scores:
        """Mean intersection over union of the classes that the images show, and that of each."""
        both, said, true = evidence.sum(axis=0).T
        unions = zip(both.tolist(), (said + true - both).tolist(), true.tolist(), strict=True)
        per_class = tuple(part / whole if shown else None for part, whole, shown in unions)
        shown = [score for score in per_class if score is not None]
        return Scores(sum(shown) / len(shown) if shown else 0.0, per_class)


TASK = Segmentation()
