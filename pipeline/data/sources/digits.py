"""The embedded source: 1,797 real handwritten digits, 8×8 grey, that scikit-learn ships.

Optical Recognition of Handwritten Digits, UCI (Alpaydin and Kaynak, 1998).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from pipeline.data.images import encode_png
from pipeline.data.sources.rows import Row

LARGEST_VALUE = 16
TEST_FRACTION = 0.5


class DigitsSource:
    """scikit-learn's digits as PNG, all labelled; half are test, stratified, by the seed."""

    name = "digits"
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
        self._test = {int(index) for index in test}

    def __len__(self) -> int:
        return len(self._labels)

    def rows(self) -> Iterator[Row]:
        """Every digit, in scikit-learn's order."""
        for index, label in enumerate(self._labels):
            pixels = self._images[index].reshape(8, 8, 1)
            split = "test" if index in self._test else "train"
            yield Row(
                f"digit_{index:05d}", encode_png(pixels), label, split, content=pixels.tobytes()
            )
