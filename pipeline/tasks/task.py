"""What a task says of itself; everything else is shared by all of them.

Images are squares (N, C, S, S) uint8, whatever the task. Three kinds of arrays have one entry an
image, and a shape behind that only the task knows:

- targets: what images show, as numbers; a column of the prepared shards holds them packed;
- predictions: what a model says of images, compact, so that many fit into memory;
- evidence: how each image speaks for a model, of which scores of any set of images are computed.

A unit is what is selected and counted: an image, a pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.tasks.significance import Bootstrap, PairedTest

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.augment import Draws
    from pipeline.augment.warp import Warp
    from pipeline.data.images import StoredImage
    from pipeline.params import AugmentParams, DataParams, SelectParams

Array = NDArray[Any]
Floats = NDArray[np.float32]


class Encoded(NamedTuple):
    """An answer as it is stored: the value of the column, a number ≥ 0 that two answers share
    where they are the same, and the numbers of the classes that the image shows."""

    value: Any
    key: int
    classes: tuple[int, ...]


@dataclass(frozen=True)
class Units:
    """U units of some images: the place of each one's image, its class and log-confidence, (U,)."""

    images: NDArray[np.int64]
    labels: NDArray[np.int32]
    log_confidences: NDArray[np.float16]


class Scores(NamedTuple):
    """The score of a set of images in [0, 1], and that of each class, None for one it lacks."""

    score: float
    per_class: tuple[float | None, ...]


class Task(Protocol):
    """A kind of answer. N: images, K: classes, S: side of the square."""

    name: str
    score: str
    """what guard, champion and search go by, as the end of a metric's key: "accuracy", "miou" """
    score_words: str
    """the same in a sentence: "accuracy", "mean IoU" """
    unit: str
    """what is selected, in a sentence: "image", "pixel" """
    image_classes: bool
    """whether an image has one class: only then classifiers on features of whole images, their
    neighbours, and answers by one choice an image can serve"""
    keeps_whole: bool
    """whether the whole image is fitted into the square (letterboxed), else its centre (cropped)"""
    target: Any
    """pa.Field of the column of the prepared shards that holds the answer, null where unknown"""

    # data
    def encode(
        self,
        labels: Sequence[Any],
        images: Sequence[StoredImage],
        data: DataParams,
        num_classes: int,
    ) -> list[Encoded | str]:
        """A source's answers, one an image, in the stored square; a text is what is wrong."""

    def load(self, column: Any, side: int) -> Array:
        """The targets (N, …) of a column of shards, as numbers; what is null is unknown."""

    # learning
    def class_counts(self, targets: Tensor, num_classes: int) -> Tensor:
        """How many of the units of targets (N, …) are of each class: (K,) int64."""

    def classes(self, targets: Tensor) -> Tensor:
        """Targets (N, …) as the classes that cross-entropy takes: (N, …) int64, ignored: -100."""

    def warp(self, targets: Tensor, warp: Warp) -> Tensor:
        """Targets, true ones or pseudo-labels, moved as their images were."""

    def mix(
        self,
        images: Tensor,
        targets: Sequence[Tensor],
        draws: Draws,
        augment: AugmentParams,
        num_classes: int,
    ) -> tuple[Tensor, list[Tensor]]:
        """Pairs of images mixed as augment.mix says, and several kinds of targets of them alike."""

    def taught(self, targets: Tensor, num_classes: int) -> tuple[Tensor, Tensor | None]:
        """Pseudo-labels (N, …) as probabilities (N, K, …), and how much each unit counts, (N, …);
        None: all alike."""

    def as_taught(self, predictions: Array) -> Array:
        """Predictions (N, …) as pseudo-labels, of all units, as `taught` takes them."""

    # predicting
    def undo(self, scores: Tensor, undo: Callable[[Tensor], Tensor]) -> Tensor:
        """Scores (N, K, …) of a view of images in another frame, such as that of the images.

        undo: what moves pixels there.
        """

    def pack(self, log_probs: Tensor) -> Array:
        """Predictions (N, …) of log-probabilities (N, K, …)."""

    def merge(self, members: Sequence[Array], weights: Sequence[float], num_classes: int) -> Array:
        """The predictions of several models of the same images as one; weights: of sum 1."""

    def prediction_columns(self, predictions: Array) -> dict[str, Any]:
        """Predictions as Arrow columns of a shard."""

    def prediction_schema(self, num_classes: int, *, units: bool = False) -> Any:
        """The Arrow schema of these columns; units: of those alone that `units` reads."""

    def read_predictions(self, table: Any, num_classes: int, source: object) -> Array:
        """Predictions (N, …) of a table of these columns; DataError names `source`."""

    # teaching
    def units(self, table: Any, num_classes: int, source: object) -> Units:
        """The units of a table of predictions that a selection counts."""

    def unit_targets(self, units: Units, targets: Array) -> NDArray[np.int32]:
        """The true class of each unit by the targets (N, …) of the images, -1 where unknown."""

    def teach(
        self,
        predictions: Array,
        is_sure: Callable[[NDArray[np.int32], Floats], NDArray[np.bool_]],
        select: SelectParams,
    ) -> dict[str, Any]:
        """Pseudo-labels of predictions (N, …) as Arrow columns; what is not sure is ignored.

        is_sure: of classes and confidences of one shape, which are sure enough.
        """

    def pseudo_label_schema(self, num_classes: int) -> Any:
        """The Arrow schema of what training reads of these columns."""

    def read_pseudo_labels(
        self, table: Any, num_classes: int, label_kind: str, source: object
    ) -> Array:
        """Pseudo-labels (N, …) of such a table, as `taught` takes them."""

    # showing
    def draw(self, pixels: NDArray[np.uint8], target: Array, num_classes: int) -> NDArray[np.uint8]:
        """An image (S, S, C) with a target or a pseudo-label of it, (S, S, 3)."""

    # judging
    def sample(
        self, log_probs: Tensor, targets: Array, most: int
    ) -> tuple[Floats, NDArray[np.int64]]:
        """Units as `classified` has them, of log-probabilities (N, K, …) as they come.

        most: units an image may have.
        """

    def classified(
        self, predictions: Array, targets: Array, num_classes: int
    ) -> tuple[Floats, NDArray[np.int64]]:
        """Units (not necessarily all) as a classification: log-probabilities (U, K), classes (U,).

        Calibration, likelihood and confusion are measured on them.
        """

    def evidence(self, predictions: Array, targets: Array, num_classes: int) -> Array:
        """How each image speaks for the model: (N, …)."""

    def scores(self, evidence: Array) -> Scores:
        """The scores of the images with this evidence."""

    def interval(self, evidence: Array, bootstrap: Bootstrap) -> tuple[float, float]:
        """Of the score."""

    def compare(self, before: Array, after: Array, bootstrap: Bootstrap) -> PairedTest:
        """Two models by their evidence on the same images."""

    def beats(self, earlier: Array, later: Array) -> bool:
        """Whether the earlier model scores higher by over a standard error of the difference."""

    def losses(self, predictions: Array, targets: Array, num_classes: int) -> Floats:
        """What each image costs a model in mean -log p of the truth: (N,)."""
