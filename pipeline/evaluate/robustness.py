"""How a model stands common corruptions, and by how much better or worse than generation 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import DataError
from pipeline.evaluate.metrics import Floats, correct

if TYPE_CHECKING:
    from torch import Tensor

# Draws are made for so many consecutive images at a time, whatever the batch of the network.
BLOCK = 512


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


def measure_robustness(
    predict: Callable[[Tensor], Floats], images: Tensor, labels: Tensor, *, seed: int
) -> Robustness:
    """Test a model under every corruption that changes `images`, by `seed`.

    predict: (N, C, S, S) uint8 → log-probabilities (N, K); images: (N, C, S, S) uint8, N ≥ 1.
    """
    from pipeline.evaluate.corruptions import SEVERITIES, corruption_names

    images, truth = images.cpu(), labels.cpu().numpy()

    def accuracy(seen: Tensor) -> float:
        return float(correct(predict(seen), truth).mean())

    return Robustness(
        images=len(images),
        clean=accuracy(images),
        accuracy={
            name: tuple(
                accuracy(corrupted(images, name, severity, seed=seed)) for severity in SEVERITIES
            )
            for name in corruption_names(images.shape[1])
        },
    )


def times_seen(channels: int) -> int:
    """How often measure_robustness predicts an image of so many channels."""
    from pipeline.evaluate.corruptions import SEVERITIES, corruption_names

    return 1 + len(SEVERITIES) * len(corruption_names(channels))


def corrupted(images: Tensor, name: str, severity: int, *, seed: int) -> Tensor:
    """`images` (N, C, S, S) uint8 under a corruption; the draws depend on seed, name and place.

    All severities share their draws, so that a higher one is the same accident, only worse.
    """
    import torch

    from pipeline.evaluate.corruptions import corrupt

    parts = []
    for block, start in enumerate(range(0, len(images), BLOCK)):
        entropy = np.random.SeedSequence([seed, block, *name.encode()])
        state = int(entropy.generate_state(1, np.uint64)[0] >> 1)
        generator = torch.Generator().manual_seed(state)
        parts.append(corrupt(images[start : start + BLOCK], name, severity, generator))
    return torch.cat(parts)


def chosen_rows(count: int, most: int, seed: int) -> list[int]:
    """`most` of `count` rows by seed, or all, in rising order."""
    if most >= count:
        return list(range(count))
    return sorted(np.random.default_rng(seed).choice(count, most, replace=False).tolist())


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
    least = 0.5 / result.images

    def errors(accuracies: tuple[float, ...]) -> float:
        return max(sum(1 - value for value in accuracies), least)

    ratios = [
        errors(result.accuracy[name]) / errors(first.accuracy[name]) for name in first.accuracy
    ]
    return float(np.mean(ratios))


def robustness_from_json(value: Mapping[str, Any]) -> Robustness:
    """The Robustness whose fields are in `value`; raises DataError for anything else."""
    try:
        fields = dict(value)
        fields["accuracy"] = {name: tuple(part) for name, part in fields["accuracy"].items()}
        return Robustness(**fields)
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"not figures of robustness: {error}") from None
