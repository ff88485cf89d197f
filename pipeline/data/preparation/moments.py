"""Mean and standard deviation of pixels, as networks are given them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.data.fit import Size, place_of
from pipeline.data.images import Pixels

Ints = NDArray[np.int64]


@dataclass
class Moments:
    """Sums of pixels and of their squares, exact, per channel: (C,) int64."""

    pixels: int
    sums: Ints
    squares: Ints

    @classmethod
    def none(cls, channels: int) -> Self:
        """Those of no image."""
        return cls(0, *np.zeros((2, channels), np.int64))

    @classmethod
    def of(cls, value: dict[str, Any]) -> Self:
        """From JSON; raises KeyError, TypeError or ValueError."""
        sums, squares = (np.array(value[name], np.int64) for name in ("sums", "squares"))
        return cls(int(value["pixels"]), sums, squares)

    @property
    def value(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "pixels": self.pixels,
            "sums": self.sums.tolist(),
            "squares": self.squares.tolist(),
        }

    def __iadd__(self, other: Moments) -> Self:
        self.pixels += other.pixels
        self.sums += other.sums
        self.squares += other.squares
        return self

    def add(self, pixels: Pixels, whole: Size | None = None) -> None:
        """Those of an image (H, W, C); whole: the own size of one that was fitted whole into the
        square, of which what lies around it does not count."""
        if whole is not None:
            left, top, right, bottom = place_of(*whole, len(pixels))
            pixels = pixels[top:bottom, left:right]
        values = pixels.reshape(-1, pixels.shape[2]).astype(np.int64)
        self.pixels += len(values)
        self.sums += values.sum(axis=0)
        self.squares += (values * values).sum(axis=0)

    def mean_and_std(self) -> tuple[list[float], list[float]]:
        """Per channel, of pixels in 0..1; a constant channel gets the std of one grey level."""
        mean = self.sums / self.pixels
        variance = np.maximum(self.squares / self.pixels - mean**2, 1.0)
        return [float(m) / 255 for m in mean], [float(s) / 255 for s in np.sqrt(variance)]
