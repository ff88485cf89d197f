"""scikit-learn's handwritten digits, split as the benchmark's protocol says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.in_process import Images
from pipeline.data.images import decode
from pipeline.data.sources import open_source


@dataclass(frozen=True)
class DigitsSplit:
    """pixels: (1797, 64) from 0 to 16; labels: (1797,); the rest are rows of these."""

    pixels: NDArray[np.float64]
    labels: NDArray[np.int64]
    labeled: NDArray[np.int64]
    unlabeled: NDArray[np.int64]
    test: NDArray[np.int64]


def split_digits(seed: int, num_labels: int) -> DigitsSplit:
    """Halves by seed, stratified; `num_labels` of the first labelled, the second tested on."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    rows = np.arange(len(labels))
    train, test = train_test_split(rows, test_size=0.5, stratify=labels, random_state=seed)
    labeled, unlabeled = train_test_split(
        train, train_size=num_labels, stratify=labels[train], random_state=seed
    )
    return DigitsSplit(pixels, labels.astype(np.int64), labeled, unlabeled, test)


def digits(seed: int, num_labels: int, image_size: int) -> Images:
    """The split as tensors, scaled as the stage prepare does."""
    split = split_digits(seed, num_labels)
    stored = np.stack(
        [
            decode(row.image, image_size=image_size, channels=1, max_pixels=64)
            for row in open_source("digits", None, seed=seed).rows()
        ]
    )
    images = torch.from_numpy(stored).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(split.labels)
    return Images(
        labeled=images[split.labeled],
        labels=labels[split.labeled],
        unlabeled=images[split.unlabeled],
        test=images[split.test],
        test_labels=labels[split.test],
        classes=tuple(str(digit) for digit in range(10)),
    )
