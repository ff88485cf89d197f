"""One class an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data.distributions import (
    as_stored,
    distribution_columns,
    distribution_fields,
    read_distributions,
    sharpened,
    shown_columns,
    stored_confidences,
)
from pipeline.data.predictions import whole_numbers
from pipeline.data.preparation.corrections import class_reader
from pipeline.data.preparation.targets import Encoded
from pipeline.errors import DataError
from pipeline.tasks.averages import weighted_log_probs
from pipeline.tasks.metrics import LEAST_LOG_PROB, are_right, correct
from pipeline.tasks.significance import Bootstrap, PairedTest, accuracy_interval, compare
from pipeline.tasks.task import Array, Choose, Floats, Scores, Taught, Units

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.augment import Draws
    from pipeline.augment.warp import Warp
    from pipeline.data.images import StoredImage
    from pipeline.params import AugmentParams, DataParams, SelectParams

LABEL = pa.field("label", pa.int32(), nullable=False)
OUTLINE = pa.schema([LABEL, pa.field("log_confidence", pa.float16(), nullable=False)])


class Classification:
    """Targets (N,) int64, -1 where unknown; predictions (N, K) float32 log-probabilities; evidence
    (N, 2): the class predicted and the true one. Pseudo-labels are probabilities (N, K)."""

    name = "classification"
    score, score_words, class_score, unit = "accuracy", "accuracy", "accuracy", "image"
    image_classes, keeps_whole = True, False
    answer_file: str | None = None
    target = pa.field("label", pa.int32())
    correction_reader = staticmethod(class_reader)

    # data
    def encode(
        self,
        labels: Sequence[Any],
        images: Sequence[StoredImage],
        data: DataParams,
        num_classes: int,
    ) -> list[Encoded | str]:
        """The class numbers as they are."""
        return [Encoded(label, label, (label,)) for label in labels]

    def load(self, column: Any, side: int) -> Array:
        """(N,) int64, -1 where null."""
        return np.asarray(column.fill_null(-1).to_numpy(), np.int64)

    # learning
    def class_counts(self, targets: Tensor, num_classes: int) -> Tensor:
        """Of the images."""
        return targets.bincount(minlength=num_classes)

    def classes(self, targets: Tensor) -> Tensor:
        """As they are: class numbers, or probabilities where images were mixed."""
        return targets

    def warp(self, targets: Tensor, warp: Warp) -> Tensor:
        """A moved image keeps its class."""
        return targets

    def mix(
        self,
        images: Tensor,
        targets: Sequence[Tensor],
        draws: Draws,
        augment: AugmentParams,
        num_classes: int,
    ) -> tuple[Tensor, list[Tensor]]:
        """Classes become probabilities (N, K), mixed as the images are."""
        import torch
        from torch.nn.functional import one_hot

        from pipeline.augment import mix

        shares = [
            each if each.is_floating_point() else one_hot(each, num_classes).float()
            for each in targets
        ]
        kind = augment.mix
        if kind == "none" or kind == "classmix":
            return images, shares
        joined = torch.cat(shares, dim=1)
        images, joined = mix(images, joined, draws, kind=kind, alpha=augment.mix_alpha)
        return images, list(torch.split(joined, [each.shape[1] for each in shares], dim=1))

    def taught(self, targets: Tensor, num_classes: int) -> tuple[Tensor, Tensor | None]:
        """Probabilities as they are."""
        return targets, None

    def as_taught(self, predictions: Array) -> Array:
        """Their exponents."""
        return np.exp(predictions)

    # predicting
    def undo(self, scores: Tensor, undo: Callable[[Tensor], Tensor]) -> Tensor:
        """A view has the class of its image."""
        return scores

    def pack(self, log_probs: Tensor) -> Array:
        """As they are."""
        return np.asarray(log_probs.cpu().numpy(), np.float32)

    def merge(self, members: Sequence[Array], weights: Sequence[float], num_classes: int) -> Array:
        """The weighted mean of the probabilities."""
        return weighted_log_probs(dict(enumerate(members)), dict(enumerate(weights)))

    def outside(self, predictions: Array, sizes: NDArray[np.int64]) -> Array:
        """As they are."""
        return predictions

    def prediction_columns(self, predictions: Array) -> dict[str, Any]:
        """In half precision; beside them the likeliest class and its log-probability, which a
        selection reads alone."""
        stored = as_stored(predictions)
        return {
            "label": pa.array(stored.labels),
            "log_confidence": pa.array(stored.values.max(axis=1).astype(np.float16)),
            **distribution_columns(stored, "log_probs"),
        }

    def prediction_schema(self, num_classes: int, *, units: bool = False) -> Any:
        """The two, and the distributions."""
        own = [] if units else distribution_fields(num_classes, "log_probs")
        return pa.schema([*OUTLINE, *own])

    def read_predictions(self, table: Any, num_classes: int, source: object) -> Array:
        """(N, K)."""
        return read_distributions(table, num_classes, "log_probs", source).dense()

    def distributions(self, predictions: Array, num_classes: int) -> Floats:
        """An image is one unit."""
        return np.exp(predictions)[:, None]

    # answering
    def answer(self, prediction: Array, size: Sequence[int], classes: Sequence[str]) -> Any:
        """The name of the likeliest class."""
        return classes[int(np.exp(prediction).argmax())]

    def answer_columns(self, predictions: Array, classes: Sequence[str]) -> dict[str, Any]:
        """The likeliest class, its probability and those of all."""
        return shown_columns(predictions, classes)

    def encode_answer(self, answer: Any, num_classes: int) -> bytes:
        raise NotImplementedError("a row says all")

    # teaching
    def units(self, table: Any, num_classes: int, source: object, most: int) -> Units:
        """The images themselves."""
        labels = whole_numbers(table, "label", num_classes - 1, source)
        places = np.arange(len(labels))
        return Units(places, np.zeros_like(places), labels, table["log_confidence"].to_numpy())

    def unit_targets(self, units: Units, targets: Array) -> NDArray[np.int32]:
        """As they are."""
        return np.asarray(targets, np.int32)

    def class_targets(
        self, counts: NDArray[np.int64], select: SelectParams
    ) -> NDArray[np.int64] | None:
        """Of each class the same number."""
        if select.images_per_class is not None:
            return np.full_like(counts, select.images_per_class)
        if select.fraction_per_class is None:
            return None
        share = select.fraction_per_class * int(counts.sum()) / len(counts)
        return np.full_like(counts, max(1, round(share)))

    def teach(
        self, table: Any, num_classes: int, source: object, choose: Choose, select: SelectParams
    ) -> Taught:
        """Probabilities, sharpened."""
        units = self.units(table, num_classes, source, 1)
        log_probs = read_distributions(table, num_classes, "log_probs", source)
        return Taught(
            distribution_columns(sharpened(log_probs, select.temperature), "probabilities"),
            units.labels,
            stored_confidences(units.log_confidences),
            choose(units.images, units.labels, units.log_confidences),
        )

    def pseudo_label_schema(self, num_classes: int) -> Any:
        """The class and the probabilities."""
        return pa.schema([LABEL, *distribution_fields(num_classes, "probabilities")])

    def read_pseudo_labels(
        self, table: Any, num_classes: int, label_kind: str, source: object
    ) -> Array:
        """Probabilities (N, K): all of the class where labels are hard."""
        if label_kind == "hard":
            labels = whole_numbers(table, "label", num_classes - 1, source)
            return np.equal.outer(labels, np.arange(num_classes)).astype(np.float32)
        stored = read_distributions(table, num_classes, "probabilities", source).dense()
        sums = stored.sum(axis=1, keepdims=True)
        if not (np.isfinite(sums) & (sums > 0)).all() or (stored < 0).any():
            raise DataError(f"{source}: probabilities that are none; run its stage again")
        return np.asarray(stored / sums)

    # judging
    def sample(
        self, log_probs: Tensor, targets: Array, most: int
    ) -> tuple[Floats, NDArray[np.int64]]:
        """All images as they are."""
        return self.pack(log_probs), targets

    def classified(
        self, predictions: Array, targets: Array, num_classes: int
    ) -> tuple[Floats, NDArray[np.int64]]:
        """All images as they are."""
        return predictions, targets

    def evidence(self, predictions: Array, targets: Array, num_classes: int) -> Array:
        """(N, 2) int64; raises DataError for targets that do not fit."""
        correct(predictions, targets)
        return np.stack([predictions.argmax(axis=1), targets], axis=1)

    def scores(self, evidence: Array) -> Scores:
        """Accuracy, of all images and of those of each class."""
        right, labels = are_right(evidence), evidence[:, 1]
        totals, found = np.bincount(labels), np.bincount(labels, right)
        pairs = zip(found, totals, strict=True)
        per_class = [float(own / total) if total else None for own, total in pairs]
        return Scores(float(right.mean()), tuple(per_class))

    def interval(self, evidence: Array, bootstrap: Bootstrap) -> tuple[float, float]:
        """Wilson's."""
        return accuracy_interval(are_right(evidence), bootstrap.interval)

    def compare(self, before: Array, after: Array, bootstrap: Bootstrap) -> PairedTest:
        """McNemar's test and the bootstrap."""
        return compare(are_right(before), are_right(after), bootstrap)

    def difference_error(self, before: Array, after: Array) -> float | None:
        """None: the images gained and lost say all."""
        return None

    def beats(self, earlier: Array, later: Array) -> bool:
        """By images that only one of them has right."""
        one, other = are_right(earlier), are_right(later)
        lost, gained = int((one & ~other).sum()), int((other & ~one).sum())
        return bool(lost - gained > np.sqrt(lost + gained))

    def behind(self, score: float, other: float, count: int, images: str) -> str:
        """In images that are right."""
        return f"is right on {round(count * other) - round(count * score)} fewer of {images}"

    def shown(self, score: float, count: int) -> str:
        """How many images are right."""
        return str(round(count * score))

    def more_figures(self, evidence: Array, predictions: Array, targets: Array) -> dict[str, float]:
        """None."""
        return {}

    def evidence_values(self, evidence: Array) -> list[Any]:
        """Whether each image is right."""
        return list(are_right(evidence).tolist())

    def evidence_of(self, values: Sequence[Any]) -> Array:
        """Class 0 of right images, 1 of wrong ones, for 0."""
        wrong = ~np.array(values, np.bool_)
        return np.stack([wrong, np.zeros_like(wrong)], axis=1).astype(np.int64)

    def losses(self, predictions: Array, targets: Array, num_classes: int) -> Floats:
        """-log p of each image's class."""
        own = predictions[np.arange(len(targets)), targets]
        return np.asarray(-np.maximum(own, LEAST_LOG_PROB), np.float32)

    # showing
    def draw(self, pixels: NDArray[np.uint8], target: Array, num_classes: int) -> NDArray[np.uint8]:
        """The image alone, in RGB."""
        return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))

    def tiles(
        self, pixels: NDArray[np.uint8], prediction: Array, target: Array | None, num_classes: int
    ) -> list[NDArray[np.uint8]]:
        """The image alone."""
        return [self.draw(pixels, prediction, num_classes)]


TASK = Classification()
