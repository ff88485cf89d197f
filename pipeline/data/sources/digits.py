"""The embedded source: 1,797 real handwritten digits, 8×8 grey, that scikit-learn ships.

Optical Recognition of Handwritten Digits, UCI (Alpaydin and Kaynak, 1998).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.data.encoding import encode_png
from pipeline.data.sources.rows import Row

LARGEST_VALUE = 16
TEST_FRACTION = 0.5


@dataclass(frozen=True)
class _Part:
    """Some of the digits, (n, 64) uint8, their labels and splits; first: number of the first."""

    first: int
    images: NDArray[np.uint8]
    labels: list[int]
    splits: list[str]

    def __iter__(self) -> Iterator[Row]:
        rows = zip(self.images, self.labels, self.splits, strict=True)
        for index, (image, label, split) in enumerate(rows, self.first):
            pixels = image.reshape(8, 8, 1)
            name = f"digit_{index:05d}"
            yield Row(name, encode_png(pixels), label, split, content=pixels.tobytes())


class DigitsSource:
    """scikit-learn's digits as PNG, all labelled; half are test, stratified, by the seed."""

    name = "digits"
    rows_together = 1
    left_out: ClassVar[list[tuple[str, str]]] = []
    notes: ClassVar[list[str]] = []
    classes: ClassVar[list[str]] = list("0123456789")

    def __init__(self, seed: int) -> None:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        values, labels = load_digits(return_X_y=True)
        self._images = np.round(values * (255 / LARGEST_VALUE)).astype(np.uint8)
        self._labels = [int(label) for label in labels]
        _, test = train_test_split(
            np.arange(len(labels)), stratify=labels, random_state=seed, test_size=TEST_FRACTION
        )
        tested = set(test.tolist())
        self._splits = ["test" if row in tested else "train" for row in range(len(labels))]

    def __len__(self) -> int:
        return len(self._labels)

    def rows(self) -> Iterator[Row]:
        """Every digit, in scikit-learn's order."""
        return iter(self.part(0, len(self)))

    def part(self, first: int, stop: int) -> Iterable[Row]:
        """Some of them."""
        some = slice(first, stop)
        return _Part(first, self._images[some], self._labels[some], self._splits[some])
