"""Accuracy under common corruptions, and what it comes to beside another model's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import DataError


@dataclass(frozen=True)
class Robustness:
    """Accuracy on `images` test images, clean and by corruption at severities 1 to 5.

    mean_corruption_error: relative to generation 0, 1 for generation 0 itself.
    """

    images: int
    clean: float
    accuracy: dict[str, tuple[float, ...]]
    mean_corruption_error: float = 1.0

    @property
    def mean_accuracy(self) -> float:
        """Over corruptions and severities."""
        return float(np.mean(list(self.accuracy.values())))

    @property
    def by_severity(self) -> list[float]:
        """Mean accuracy over the corruptions, without any and at severities 1 to 5."""
        return [self.clean, *np.mean(list(self.accuracy.values()), axis=0).tolist()]


def mean_corruption_error(result: Robustness, first: Robustness) -> float:
    """Mean over corruptions of the summed errors over those of `first` (Hendrycks & Dietterich).

    A sum of no errors counts as half an image, so that the ratio stays finite. Raises DataError
    where the two are not of the same images and corruptions.
    """
    if result.images != first.images or result.accuracy.keys() != first.accuracy.keys():
        raise DataError(
            f"can't compare robustness on {result.images} images with that on {first.images}; "
            "evaluate both generations again"
        )

    def errors(accuracies: tuple[float, ...]) -> float:
        return max(sum(1 - value for value in accuracies), 0.5 / result.images)

    ratios = [
        errors(result.accuracy[name]) / errors(first.accuracy[name]) for name in first.accuracy
    ]
    return float(np.mean(ratios))


def robustness_from_json(value: dict[str, Any]) -> Robustness:
    """The Robustness whose fields are in `value`."""
    accuracy = {name: tuple(part) for name, part in value["accuracy"].items()}
    return Robustness(**(value | {"accuracy": accuracy}))
