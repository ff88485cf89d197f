"""One class a pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan, isqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data import class_maps
from pipeline.data.answers.corrected_masks import mask_reader
from pipeline.data.class_maps import IGNORED
from pipeline.data.fit import own_pixels, padding
from pipeline.data.preparation.encoded_masks import encoded_masks
from pipeline.data.preparation.targets import Encoded
from pipeline.tasks import iou, taught_maps
from pipeline.tasks.significance import BOOTSTRAP, Bootstrap, PairedTest
from pipeline.tasks.task import Array, Choose, Floats, Scores, Taught, Units

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.augment import Draws
    from pipeline.augment.warp import Warp
    from pipeline.data.images import StoredImage
    from pipeline.params import AugmentParams, DataParams, SelectParams

CLASSIFIED = 32  # pixels along a side of the grid that calibration is measured on
MOST_CLASSIFIED = 1 << 26  # probabilities of all grids together


class Segmentation:
    """Targets (N, S, S) uint8, IGNORED where unknown; predictions and pseudo-labels are maps
    (N, 4, S, S) of pipeline.data.class_maps; evidence (N, K, 3) int64: of each class the pixels
    that are both predicted and true, those predicted, and those true, of pixels that count."""

    name = "segmentation"
    score, score_words, class_score, unit = "miou", "mean IoU", "IoU", "sampled pixel"
    image_classes, keeps_whole = False, True
    answer_file: str | None = "mask"
    target = pa.field("mask", pa.binary())
    correction_reader = staticmethod(mask_reader)

    # data
    def encode(
        self,
        labels: Sequence[Any],
        images: Sequence[StoredImage],
        data: DataParams,
        num_classes: int,
    ) -> list[Encoded | str]:
        """The files of masks, in the square of their images; what a mask says is one key."""
        return encoded_masks(labels, images, data)

    def load(self, column: Any, side: int) -> Array:
        """Masks (N, S, S), all ignored where null."""
        return class_maps.read_masks(column, side, "masks")

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
        from pipeline.augment.mix import mix_pixels

        kind, alpha = augment.mix, augment.mix_alpha
        return mix_pixels(images, targets, draws, kind=kind, alpha=alpha, num_classes=num_classes)

    def taught(self, targets: Tensor, num_classes: int) -> tuple[Tensor, Tensor | None]:
        """The two likeliest classes of each pixel; a pixel counts as much as it is sure."""
        return taught_maps.map_targets(targets, num_classes)

    def as_taught(self, predictions: Array) -> Array:
        """As they are."""
        return predictions

    # predicting
    def undo(self, scores: Tensor, undo: Callable[[Tensor], Tensor]) -> Tensor:
        """Moved back."""
        return undo(scores)

    def pack(self, log_probs: Tensor) -> Array:
        """Maps."""
        return class_maps.pack_maps(log_probs)

    def merge(self, members: Sequence[Array], weights: Sequence[float], num_classes: int) -> Array:
        """Maps of the weighted mean of what maps say."""
        return class_maps.merge_maps(members, weights, num_classes)

    def outside(self, predictions: Array, sizes: NDArray[np.int64]) -> Array:
        """Ignored there."""
        predictions = predictions.copy()
        predictions[:, 0][padding(sizes, predictions.shape[-1])] = IGNORED
        return predictions

    def prediction_columns(self, predictions: Array) -> dict[str, Any]:
        """Maps as PNG."""
        return class_maps.map_columns(predictions)

    def prediction_schema(self, num_classes: int, *, units: bool = False) -> Any:
        """Of maps."""
        return class_maps.COLUMNS

    def read_predictions(self, table: Any, num_classes: int, source: object) -> Array:
        """Maps (N, 4, S, S)."""
        return class_maps.read_maps(table, num_classes, source)

    def distributions(self, predictions: Array, num_classes: int) -> Floats:
        """Of a grid of pixels."""
        rows, columns = class_maps.grid_places(predictions, CLASSIFIED)
        some = predictions[..., rows, columns]
        shares = class_maps.map_probabilities(some, num_classes)
        shares = np.where(some[:, :1] == IGNORED, np.float32(0), shares)
        return np.moveaxis(shares.reshape(*shares.shape[:2], -1), 1, 2)

    # answering
    def answer(self, prediction: Array, size: Sequence[int], classes: Sequence[str]) -> Any:
        """The class of each of its own pixels, (H, W)."""
        return own_pixels(prediction[0], *map(int, size))

    def answer_columns(self, predictions: Array, classes: Sequence[str]) -> dict[str, Any]:
        """The mean confidence of the pixels, and the share of each class."""
        shares, confidences = class_maps.map_shares(predictions, len(classes))
        columns = {"confidence": pa.array(confidences)}
        return columns | {
            f"share_{name}": pa.array(share) for name, share in zip(classes, shares.T, strict=True)
        }

    def encode_answer(self, answer: Any, num_classes: int) -> bytes:
        """Class numbers, with a colour for each."""
        return class_maps.palette_png(answer, num_classes)

    # teaching
    def units(self, table: Any, num_classes: int, source: object, most: int) -> Units:
        """Of the pixels in an even grid those that are not ignored."""
        maps = class_maps.read_maps(table, num_classes, source)
        pixels = taught_maps.grid_pixels(maps.shape[-1], most)
        firsts = maps.reshape(len(maps), 4, -1)[:, :, pixels]
        images, places = np.nonzero(firsts[:, 0] != IGNORED)
        return Units(
            images,
            pixels[places],
            firsts[images, 0, places].astype(np.int32),
            taught_maps.LOG_CONFIDENCES[firsts[images, 2, places]],
        )

    def unit_targets(self, units: Units, targets: Array) -> NDArray[np.int32]:
        """Of the same pixels."""
        values = targets.reshape(len(targets), -1)[units.images, units.numbers].astype(np.int32)
        return np.where(values == IGNORED, np.int32(-1), values)

    def class_targets(
        self, counts: NDArray[np.int64], select: SelectParams
    ) -> NDArray[np.int64] | None:
        """Of each class the same share (Zou et al. 2018): shares of classes are not the teacher's
        to choose, most pixels of most images are of few of them."""
        if select.fraction_per_class is None:
            return None
        return np.asarray(np.rint(counts * select.fraction_per_class).clip(1), np.int64)

    def teach(
        self, table: Any, num_classes: int, source: object, choose: Choose, select: SelectParams
    ) -> Taught:
        """Maps where pixels that are not kept are ignored; an image counts where one is kept."""
        return taught_maps.teach_maps(
            class_maps.read_maps(table, num_classes, source), num_classes, choose, select
        )

    def pseudo_label_schema(self, num_classes: int) -> Any:
        """Of maps."""
        return class_maps.COLUMNS

    def read_pseudo_labels(
        self, table: Any, num_classes: int, label_kind: str, source: object
    ) -> Array:
        """Maps (N, 4, S, S), of hard labels sure of one class."""
        return class_maps.read_maps(table, num_classes, source, empty=True)

    # judging
    def sample(
        self, log_probs: Tensor, targets: Array, most: int
    ) -> tuple[Floats, NDArray[np.int64]]:
        """Of a grid of pixels those that are known."""
        rows, columns = class_maps.grid_places(targets, min(CLASSIFIED, isqrt(most)))
        classes = targets[:, rows, columns].astype(np.int64).ravel()
        there = log_probs[:, :, rows, columns].movedim(1, -1).flatten(0, -2)
        known = classes != IGNORED
        return np.asarray(there.cpu().numpy(), np.float32)[known], classes[known]

    def classified(
        self, predictions: Array, targets: Array, num_classes: int
    ) -> tuple[Floats, NDArray[np.int64]]:
        """The known pixels of a grid over each image."""
        most = isqrt(MOST_CLASSIFIED // max(1, len(targets) * num_classes))
        rows, columns = class_maps.grid_places(targets, min(CLASSIFIED, most))
        shares = class_maps.map_probabilities(predictions[..., rows, columns], num_classes)
        classes = targets[..., rows, columns]
        known = classes != IGNORED
        return np.log(np.moveaxis(shares, 1, -1)[known]), classes[known].astype(np.int64)

    def evidence(self, predictions: Array, targets: Array, num_classes: int) -> Array:
        """(N, K, 3) int64; raises DataError for targets that do not fit."""
        return iou.overlaps(predictions[:, 0], targets, num_classes)

    def scores(self, evidence: Array) -> Scores:
        """Mean intersection over union of the classes that the images show, and that of each."""
        sums = evidence.sum(axis=0)
        ious = iou.class_ious(sums).tolist()
        per_class = (None if isnan(value) else value for value in ious)
        return Scores(float(iou.mean_iou(sums)), tuple(per_class))

    def interval(self, evidence: Array, bootstrap: Bootstrap) -> tuple[float, float]:
        """The bootstrap's, over images."""
        return iou.iou_interval(evidence, bootstrap)

    def compare(self, before: Array, after: Array, bootstrap: Bootstrap) -> PairedTest:
        """The bootstrap over images, and a sign test on the images' own mean IoU."""
        return iou.compare_ious(before, after, bootstrap)

    def difference_error(self, before: Array, after: Array) -> float | None:
        """By the bootstrap over images."""
        return iou.difference_error(before, after, BOOTSTRAP)

    def beats(self, earlier: Array, later: Array) -> bool:
        """By the bootstrap over images."""
        lead = self.scores(earlier).score - self.scores(later).score
        return lead > 0 and lead > iou.difference_error(earlier, later, BOOTSTRAP)

    def behind(self, score: float, other: float, count: int, images: str) -> str:
        """In points."""
        return f"has a mean IoU {100 * (other - score):.1f} points lower on {images}"

    def shown(self, score: float, count: int) -> str:
        """In percent."""
        return f"{100 * score:.1f} %"

    def more_figures(self, evidence: Array, predictions: Array, targets: Array) -> dict[str, float]:
        """The share of the known pixels that are right, and how well boundaries agree."""
        both, _, true = evidence.sum(axis=(0, 1))
        return {
            "pixel_accuracy": float(both / max(true, 1)),
            "boundary_f1": iou.boundary_f1(predictions[:, 0], targets),
        }

    def evidence_values(self, evidence: Array) -> list[Any]:
        """The overlaps."""
        return list(evidence.tolist())

    def evidence_of(self, values: Sequence[Any]) -> Array:
        """The overlaps."""
        return np.array(values, np.int64)

    def losses(self, predictions: Array, targets: Array, num_classes: int) -> Floats:
        """Mean -log p of the class of the known pixels; 0 where none is known."""
        return class_maps.map_losses(predictions, targets, num_classes)

    # showing
    def draw(self, pixels: NDArray[np.uint8], target: Array, num_classes: int) -> NDArray[np.uint8]:
        """Each class in its colour over the image; what is ignored stays."""
        return class_maps.painted(pixels, target.reshape(-1, *target.shape[-2:])[0], num_classes)

    def tiles(
        self, pixels: NDArray[np.uint8], prediction: Array, target: Array | None, num_classes: int
    ) -> list[NDArray[np.uint8]]:
        """Red where wrong, dark where ignored, else the image, faint; a pseudo-label is striped
        where ignored."""
        image = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        if target is None:
            shown = self.draw(pixels, prediction, num_classes)
            return [image, class_maps.striped(shown, prediction[0] == IGNORED)]
        both = (self.draw(pixels, each, num_classes) for each in (target, prediction[0]))
        return [image, *both, class_maps.painted_errors(pixels, prediction[0], target)]


TASK = Segmentation()
