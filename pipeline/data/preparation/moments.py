"""Mean and standard deviation of pixels, as networks are given them."""

from __future__ import annotations

import numpy as np

from pipeline.data.fit import Size, place_of
from pipeline.data.images import Pixels


class Moments:
    """Sums of pixels and of their squares, exact, per channel."""

    def __init__(self, channels: int) -> None:
        self._pixels = 0
        self._sums, self._squares = np.zeros((2, channels), np.int64)

    def add(self, pixels: Pixels, whole: Size | None = None) -> None:
        """Those of an image (H, W, C); whole: the own size of one that was fitted whole into the
        square, of which what lies around it does not count."""
        if whole is not None:
            left, top, right, bottom = place_of(*whole, len(pixels))
            pixels = pixels[top:bottom, left:right]
        values = pixels.reshape(-1, pixels.shape[2]).astype(np.int64)
        self._pixels += len(values)
        self._sums += values.sum(axis=0)
        self._squares += (values * values).sum(axis=0)

    def mean_and_std(self) -> tuple[list[float], list[float]]:
        """Per channel, of pixels in 0..1; a constant channel gets the std of one grey level."""
        mean = self._sums / self._pixels
        variance = np.maximum(self._squares / self._pixels - mean**2, 1.0)
        return [float(m) / 255 for m in mean], [float(s) / 255 for s in np.sqrt(variance)]
