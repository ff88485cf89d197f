"""What the data needs to know of a task: how its answers are stored (pipeline/tasks has them)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from numpy.typing import NDArray

if TYPE_CHECKING:
    from pipeline.data.images import StoredImage
    from pipeline.params import DataParams


class Encoded(NamedTuple):
    """An answer as it is stored: the value of the column, a number ≥ 0 that two answers share
    where they are the same, and the numbers of the classes that the image shows."""

    value: Any
    key: int
    classes: tuple[int, ...]


class Targets(Protocol):
    """N: images; S: side of the square."""

    name: str
    image_classes: bool
    """whether an image has one class: only then classifiers on features of whole images, their
    neighbours, and answers by one choice an image can serve"""
    keeps_whole: bool
    """whether the whole image is fitted into the square (letterboxed), else its centre (cropped)"""
    target: Any
    """pa.Field of the column of the prepared shards that holds the answer, null where unknown"""

    def encode(
        self,
        labels: Sequence[Any],
        images: Sequence[StoredImage],
        data: DataParams,
        num_classes: int,
    ) -> list[Encoded | str]:
        """A source's answers, one an image, in the stored square; a text is what is wrong."""

    def correction_reader(self, classes: Sequence[str], folder: Path) -> Callable[[str], Any]:
        """What reads a label of corrections.csv, which lies in `folder`, as an answer that `encode`
        takes; it raises ValueError for what is none."""

    def load(self, column: Any, side: int) -> NDArray[Any]:
        """The targets (N, …) of a column of shards, as numbers; what is null is unknown."""
