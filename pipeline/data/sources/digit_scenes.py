"""The embedded source of masks: grey scenes of 64×64 with 2 to 5 of scikit-learn's digits each.

The digits of training, validation and test are parted before scenes are composed. No two validation
scenes share a digit, so that those beyond the label budget may be used without their masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.encoding import encode_png
from pipeline.data.sources.digits import LARGEST_VALUE, TEST_FRACTION
from pipeline.data.sources.rows import MaskFile, Row

SIDE = 64
SCENES = {"train": 990, "validation": 50, "test": 400}
FEWEST, MOST = 2, 5  # digits of a scene
SMALLEST, LARGEST = 14, 22  # side of a digit, pixels
MOST_OVERLAP = 0.1  # share of a digit's square that others may cover
PLACES_TRIED = 100
INK = 0.35  # of the blackest: from here on a pixel is the digit's
LINES = 3, 8  # of clutter, as bright as digits
LONGEST_LINE = 14  # pixels
NOISE = 14.0  # standard deviation, grey levels
VALUES = tuple((number, number) for number in range(11))

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class _Part:
    """Some of the scenes, which are drawn where they are read."""

    source: DigitScenesSource
    first: int
    stop: int

    def __iter__(self) -> Iterator[Row]:
        numbers = ((split, number) for split, count in SCENES.items() for number in range(count))
        for split, number in islice(numbers, self.first, self.stop):
            yield self.source.row(split, number)


class DigitScenesSource:
    """Scenes as PNG, each with its mask: 0 the background, 1 to 10 the digits 0 to 9."""

    name = "digit_scenes"
    rows_together = 1
    left_out: ClassVar[list[tuple[str, str]]] = []
    notes: ClassVar[list[str]] = []
    classes: ClassVar[list[str]] = ["background", *"0123456789"]

    def __init__(self, seed: int) -> None:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        values, labels = load_digits(return_X_y=True)
        self._digits: Floats = values.reshape(-1, 8, 8) / LARGEST_VALUE
        self._labels: Ints = labels.astype(np.int64)
        rest, test = train_test_split(
            np.arange(len(labels)), stratify=labels, random_state=seed, test_size=TEST_FRACTION
        )
        generator = np.random.default_rng([seed, len(SCENES)])
        counts = generator.integers(FEWEST, MOST + 1, SCENES["validation"])
        ends = np.cumsum(counts).tolist()
        self._parts: dict[str, list[Ints]] = {
            "train": [rest[ends[-1] :]],
            "validation": np.split(rest[: ends[-1]], ends[:-1]),
            "test": [test],
        }
        self._seed = seed

    def __len__(self) -> int:
        return sum(SCENES.values())

    def digits_of(self, split: str, number: int) -> Ints:
        """Which of scikit-learn's digits a scene is composed of, in the order of their drawing."""
        return self._sample(split, number, self._generator(split, number))

    def rows(self) -> Iterator[Row]:
        """Every scene, those of training first."""
        return iter(self.part(0, len(self)))

    def part(self, first: int, stop: int) -> Iterable[Row]:
        """Some of them."""
        return _Part(self, first, stop)

    def row(self, split: str, number: int) -> Row:
        """A scene of a split, drawn."""
        generator = self._generator(split, number)
        scene, mask = self._scene(self._sample(split, number, generator), generator)
        label = MaskFile(encode_png(mask[:, :, None]), VALUES)
        return Row(f"{split}_{number:05d}", encode_png(scene[:, :, None]), label, split)

    def _generator(self, split: str, number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, [*SCENES].index(split), number])

    def _sample(self, split: str, number: int, generator: np.random.Generator) -> Ints:
        parts = self._parts[split]
        if len(parts) > 1:
            return parts[number]
        count = int(generator.integers(FEWEST, MOST + 1))
        return generator.choice(parts[0], count, replace=False)

    def _scene(self, digits: Ints, generator: np.random.Generator) -> tuple[Pixels, Pixels]:
        """A scene (S, S) and its mask (S, S) of these digits."""
        scene, mask = _background(generator), np.zeros((SIDE, SIDE), np.uint8)
        covered = np.zeros((SIDE, SIDE), bool)
        for digit in digits.tolist():
            side = int(generator.integers(SMALLEST, LARGEST + 1))
            place = _free_place(covered, side, generator)
            if place is None:
                continue
            covered[place] = True
            ink = _enlarged(self._digits[digit], side)
            brightness = generator.uniform(130, 255)
            scene[place] = np.maximum(scene[place], ink * brightness)
            mask[place][ink >= INK] = self._labels[digit] + 1
        scene += generator.normal(0, NOISE, scene.shape)
        return scene.round().clip(0, 255).astype(np.uint8), mask


def _background(generator: np.random.Generator) -> Floats:
    """A slope of grey with lines on it."""
    across, down = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE))
    slope = generator.uniform(-25, 25, 2)
    scene: Floats = generator.uniform(35, 75) + slope[0] * across + slope[1] * down
    for _ in range(generator.integers(*LINES)):
        length = generator.uniform(4, LONGEST_LINE)
        steps = np.linspace(0, 1, 4 * LONGEST_LINE)
        angle, bend = generator.uniform(0, 2 * np.pi), generator.uniform(-2, 2)
        turned = angle + bend * steps
        start = generator.uniform(0, SIDE, 2)
        rows = start[0] + np.cumsum(np.sin(turned)) * length / len(steps)
        columns = start[1] + np.cumsum(np.cos(turned)) * length / len(steps)
        inside = (rows >= 0) & (rows < SIDE) & (columns >= 0) & (columns < SIDE)
        places = rows[inside].astype(int), columns[inside].astype(int)
        scene[places] = generator.uniform(110, 230)
    return scene


def _free_place(
    covered: NDArray[np.bool_], side: int, generator: np.random.Generator
) -> tuple[slice, slice] | None:
    """A square of that side that is hardly covered; None where none is found."""
    for _ in range(PLACES_TRIED):
        top, left = generator.integers(0, SIDE - side + 1, 2).tolist()
        place = slice(top, top + side), slice(left, left + side)
        if covered[place].mean() <= MOST_OVERLAP:
            return place
    return None


def _enlarged(digit: Floats, side: int) -> Floats:
    """A digit (8, 8) of values in 0..1 at that side."""
    image = Image.fromarray(digit.astype(np.float32))
    large = image.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(large, np.float64).clip(0, 1)
