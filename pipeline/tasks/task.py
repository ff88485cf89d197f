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

from pipeline.data.preparation.targets import Targets
from pipeline.tasks.significance import Bootstrap, PairedTest

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.augment import Draws
    from pipeline.augment.warp import Warp
    from pipeline.params import AugmentParams, SelectParams

Array = NDArray[Any]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Units:
    """U units of some images, (U,) each: the place of its image, its number there (of an image that
    is one unit: 0), its class and log-confidence."""

    images: NDArray[np.int64]
    numbers: NDArray[np.int64]
    labels: NDArray[np.int32]
    log_confidences: NDArray[np.float16]


class Choice(NamedTuple):
    """Of units of any shape: how often each counts (0: not at all), and why."""

    repeats: NDArray[np.int32]
    reasons: NDArray[np.uint8]


Choose = Callable[[NDArray[np.int64], NDArray[np.int32], NDArray[np.float16]], Choice]
"""of images (n,), by their places, all units of each in order: classes and log-confidences (n, …)
to their choice"""


class Taught(NamedTuple):
    """Pseudo-labels of N images: their columns; a class and confidence to show for each, and how
    often it counts and why, (N,)."""

    columns: dict[str, Any]
    labels: NDArray[np.int32]
    confidences: Floats
    choice: Choice


class Scores(NamedTuple):
    """The score of a set of images in [0, 1], and that of each class, None for one it lacks."""

    score: float
    per_class: tuple[float | None, ...]


class Task(Targets, Protocol):
    """A kind of answer, beside how it is stored. N: images, K: classes, S: side of the square."""

    score: str
    """what guard, champion and search go by, as the end of a metric's key: "accuracy", "miou" """
    score_words: str
    """the same in a sentence: "accuracy", "mean IoU" """
    class_score: str
    """the score of one class: "accuracy", "IoU" """
    unit: str
    """what an audit and a confusion count, in a sentence: "image", "sampled pixel" """
    answer_file: str | None
    """what the file that answers for an image is called: "mask"; None where a row of a table says
    all"""

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

    def outside(self, predictions: Array, sizes: NDArray[np.int64]) -> Array:
        """Predictions (N, …) where nothing is said of what lies in the square outside the image.

        sizes: (N, 2), the width and height of the whole images that the squares hold.
        """

    def prediction_columns(self, predictions: Array) -> dict[str, Any]:
        """Predictions as Arrow columns of a shard."""

    def prediction_schema(self, num_classes: int, *, units: bool = False) -> Any:
        """The Arrow schema of these columns; units: of those alone that `units` reads."""

    def read_predictions(self, table: Any, num_classes: int, source: object) -> Array:
        """Predictions (N, …) of a table of these columns; DataError names `source`."""

    def distributions(self, predictions: Array, num_classes: int) -> Floats:
        """What predictions (N, …) say of some units of each image, (N, U, K); all 0 of a unit that
        counts in nothing."""

    # answering
    def answer(self, prediction: Array, size: Sequence[int], classes: Sequence[str]) -> Any:
        """A prediction (…) of one image as its user reads it: the name of its class, or a target at
        the image's own pixels, (H, W); size: width and height."""

    def answer_columns(self, predictions: Array, classes: Sequence[str]) -> dict[str, Any]:
        """What a table says of images, (N,) Arrow values by the names of its columns, among them
        `confidence`, in [0, 1]."""

    def encode_answer(self, answer: Any, num_classes: int) -> bytes:
        """An answer as PNG, which viewers show and programs read; where there is an answer_file."""

    # teaching
    def units(self, table: Any, num_classes: int, source: object, most: int) -> Units:
        """The units of a table of predictions that a selection counts, at most so many an image;
        DataError names `source`."""

    def unit_targets(self, units: Units, targets: Array) -> NDArray[np.int32]:
        """The true class of each unit by the targets (N, …) of the images, -1 where unknown."""

    def class_targets(
        self, counts: NDArray[np.int64], select: SelectParams
    ) -> NDArray[np.int64] | None:
        """How many units are wanted of each class, (K,); None: all that are sure enough.

        counts: (K,) units that are predicted as each.
        """

    def teach(
        self, table: Any, num_classes: int, source: object, choose: Choose, select: SelectParams
    ) -> Taught:
        """Pseudo-labels of a table of predictions; DataError names `source`.

        What is not chosen of an image that counts is ignored.
        """

    def pseudo_label_schema(self, num_classes: int) -> Any:
        """The Arrow schema of what training reads of these columns."""

    def read_pseudo_labels(
        self, table: Any, num_classes: int, label_kind: str, source: object
    ) -> Array:
        """Pseudo-labels (N, …) of such a table, as `taught` takes them."""

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

    def difference_error(self, before: Array, after: Array) -> float | None:
        """Standard error of the difference of the scores of two models on the same images; None
        where the images gained and lost say all."""

    def beats(self, earlier: Array, later: Array) -> bool:
        """Whether the earlier model scores higher by over a standard error of the difference."""

    def behind(self, score: float, other: float, count: int, images: str) -> str:
        """How a model falls behind another with the score `other`, before "than": "is right on 3
        fewer of 100 images"; images: `count` of them in words."""

    def shown(self, score: float, count: int) -> str:
        """The score on so many images, in a sentence: "97", "43.7 %"."""

    def more_figures(self, evidence: Array, predictions: Array, targets: Array) -> dict[str, float]:
        """Figures besides the score, by the end of a metric's key; evidence: of the same."""

    def evidence_values(self, evidence: Array) -> list[Any]:
        """Of each image the evidence that another model's is compared with, as a JSON value."""

    def evidence_of(self, values: Sequence[Any]) -> Array:
        """Evidence of such values."""

    def losses(self, predictions: Array, targets: Array, num_classes: int) -> Floats:
        """What each image costs a model in mean -log p of the truth: (N,)."""

    # showing
    def draw(self, pixels: NDArray[np.uint8], target: Array, num_classes: int) -> NDArray[np.uint8]:
        """An image (S, S, C) with a target of it, (S, S, 3)."""

    def tiles(
        self, pixels: NDArray[np.uint8], prediction: Array, target: Array | None, num_classes: int
    ) -> list[NDArray[np.uint8]]:
        """An image, its target, a prediction and where that is wrong, (S, S, 3) each; without a
        target the image and its pseudo-label; of an image with one class the image alone."""
