"""A peer without a network: scikit-learn's LabelSpreading on the pixels of the same images."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.images import decode_stored
from pipeline.data.shards import column_labels, iter_shards, read_manifest
from pipeline.progress import Advance, progress
from pipeline.tasks.significance import accuracy_interval

NAME, NEIGHBORS = "LabelSpreading", 7
MOST_IMAGES = 20_000


@dataclass(frozen=True)
class Baseline:
    """What a simpler method comes to: test accuracy with its interval, or None and why.

    name: of the method, as a page shows it; note: what went on.
    """

    name: str
    accuracy: float | None
    low: float | None
    high: float | None
    note: str


def prepared_label_spreading(
    prepared: Path, *, most_images: int = MOST_IMAGES, interval: float = 0.95
) -> Baseline:
    """`label_spreading` of a prepared folder, validation images as labelled ones.

    Images are decoded only where there are few enough of them: its cost is quadratic.
    """
    parts = ("labeled", "validation", "unlabeled", "test")
    count = sum(read_manifest(prepared / part).rows for part in parts)
    if count > most_images:
        return absent(
            NAME, f"not run on {count:,} images: its cost is quadratic, {most_images:,} fit"
        )
    with progress("baseline: decode", count) as advance:
        decoded = [_pixels_and_labels(prepared / part, advance) for part in parts]
    labeled, validation, unlabeled, test = decoded
    known = [part for part in (labeled, validation) if len(part[0])]
    return label_spreading(
        np.concatenate([images for images, _ in known]),
        np.concatenate([labels for _, labels in known]),
        unlabeled[0].reshape(len(unlabeled[0]), *labeled[0].shape[1:]),
        test[0],
        test[1],
        interval=interval,
    )


def label_spreading(
    labeled: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    unlabeled: NDArray[np.uint8],
    test: NDArray[np.uint8],
    test_labels: NDArray[np.integer[Any]],
    *,
    max_iter: int = 100,
    interval: float = 0.95,
) -> Baseline:
    """Accuracy on `test` of LabelSpreading (Zhou et al. 2004) over nearest neighbours.

    Images: (N, …) uint8, compared by their pixels. It sees labelled and unlabelled images, not
    the test images. Accuracy is None, with the reason, where there are too few; what scikit-learn
    warns of is noted.
    """
    if not len(test):
        return absent(NAME, "no test images")
    if len(np.unique(labels)) < 2 or len(labeled) + len(unlabeled) <= NEIGHBORS:
        return absent(NAME, f"needs labels of two classes and more than {NEIGHBORS} images")
    from sklearn.semi_supervised import LabelSpreading

    known = np.concatenate([labels, np.full(len(unlabeled), -1)]).astype(np.int64)
    pixels = np.concatenate([_flat(labeled), _flat(unlabeled)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = LabelSpreading(kernel="knn", n_neighbors=NEIGHBORS, max_iter=max_iter)
        predicted = model.fit(pixels, known).predict(_flat(test))
    notes = sorted({str(warning.message).splitlines()[0] for warning in caught})
    return measured(NAME, predicted == test_labels, "; ".join(notes), interval=interval)


def measured(name: str, right: NDArray[np.bool_], note: str, *, interval: float = 0.95) -> Baseline:
    """The baseline `name` that has these test images right, (N,), N > 0."""
    low, high = accuracy_interval(right, interval)
    return Baseline(name, float(right.mean()), low, high, note)


def absent(name: str, reason: str) -> Baseline:
    """The baseline `name` where it could not run."""
    return Baseline(name, None, None, None, reason)


def _flat(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def _pixels_and_labels(
    folder: Path, advance: Advance
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images (n, S, S, C) uint8 of a prepared part, (0,) where it has none, and labels (n,).

    Without torch, whose import would take longer than decoding as many images as fit.
    """
    images: list[NDArray[np.uint8]] = []
    labels = [np.empty(0, np.int64)]
    for table in iter_shards(folder, ["image", "label"]):
        images += [decode_stored(data) for data in table.column("image").to_pylist()]
        labels.append(column_labels(table))
        advance(table.num_rows)
    stacked = np.stack(images) if images else np.empty(0, np.uint8)
    return stacked, np.concatenate(labels)
