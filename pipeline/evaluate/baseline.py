"""A peer without a network: scikit-learn's LabelSpreading on the pixels of the same images."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.significance import accuracy_interval

# Its cost grows with the square of the images.
MOST_IMAGES = 20_000


@dataclass(frozen=True)
class Baseline:
    """Test accuracy with its interval, or None and why; `note` says what went on."""

    accuracy: float | None
    low: float | None
    high: float | None
    note: str


def label_spreading(
    labeled: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    unlabeled: NDArray[np.uint8],
    test: NDArray[np.uint8],
    test_labels: NDArray[np.integer[Any]],
    *,
    neighbors: int = 7,
    max_iter: int = 100,
    most_images: int = MOST_IMAGES,
    bootstrap_samples: int = 1000,
    interval: float = 0.95,
    seed: int = 0,
) -> Baseline:
    """Accuracy on `test` of LabelSpreading (Zhou et al. 2004) over nearest neighbours.

    Images: (N, …) uint8, compared by their pixels. It sees labelled and unlabelled images, not
    the test images. Accuracy is None, with the reason, where there are too many or too few.
    """
    images = len(labeled) + len(unlabeled) + len(test)
    if images > most_images:
        return _absent(f"not run on {images:,} images: its cost is quadratic, {most_images:,} fit")
    if not len(test):
        return _absent("no test images")
    if len(np.unique(labels)) < 2 or len(labeled) + len(unlabeled) <= neighbors:
        return _absent(f"needs labels of two classes and more than {neighbors} images")
    known = np.concatenate([labels, np.full(len(unlabeled), -1)]).astype(np.int64)
    pixels = np.concatenate([_flat(labeled), _flat(unlabeled)])
    predicted, notes = _spread(pixels, known, _flat(test), neighbors, max_iter)
    right = predicted == test_labels
    low, high = accuracy_interval(right, samples=bootstrap_samples, interval=interval, seed=seed)
    return Baseline(float(right.mean()), low, high, "; ".join(notes))


def _spread(
    pixels: NDArray[np.float32],
    known: NDArray[np.int64],
    test: NDArray[np.float32],
    neighbors: int,
    max_iter: int,
) -> tuple[NDArray[np.int64], list[str]]:
    """Predicted classes of `test`, and what scikit-learn warned of (each once)."""
    from sklearn.semi_supervised import LabelSpreading

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = LabelSpreading(kernel="knn", n_neighbors=neighbors, max_iter=max_iter)
        predicted = np.asarray(model.fit(pixels, known).predict(test), dtype=np.int64)
    first_lines = [str(warning.message).splitlines()[0] for warning in caught]
    return predicted, sorted(set(first_lines))


def _flat(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def _absent(reason: str) -> Baseline:
    return Baseline(None, None, None, reason)
