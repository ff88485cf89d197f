"""The small data sets of the benchmarks as tensors: handwritten digits and Fashion-MNIST.

Digits are scikit-learn's. Fashion-MNIST is one Parquet file with the columns image (PNG), label and
split.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.images import decode, decode_stored
from pipeline.data.sources import open_source
from pipeline.self_training.loop import Images

NUM_CLASSES = 10
CLASSES = tuple(str(number) for number in range(NUM_CLASSES))


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
        classes=CLASSES,
    )


def fashion_part(path: Path, split: str, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` images of a split, (n, 1, 28, 28) uint8, and their labels, (n,) int64."""
    rows = pq.read_table(path, columns=["image", "label"], filters=[("split", "==", split)])
    rows = rows.slice(0, count)
    pixels = np.stack([decode_stored(image) for image in rows.column("image").to_pylist()])
    labels = torch.tensor(rows.column("label").to_pylist())
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), labels


def balanced_rows(labels: Tensor, per_class: int, seed: int) -> Tensor:
    """`per_class` rows of each class, by seed."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    each = [order[labels[order] == number][:per_class] for number in range(NUM_CLASSES)]
    return torch.cat(each)


def few_label_rows(
    labels: Tensor, num_labels: int, num_unlabeled: int, seed: int
) -> tuple[Tensor, Tensor]:
    """The rows that few_labels takes as labelled, and those that it takes as unlabelled."""
    chosen = balanced_rows(labels, num_labels // NUM_CLASSES, seed)
    both = balanced_rows(labels, (num_labels + num_unlabeled) // NUM_CLASSES, seed)
    return chosen, both[~torch.isin(both, chosen)]


def few_labels(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    num_labels: int,
    num_unlabeled: int,
    seed: int,
) -> Images:
    """`num_labels` of the training images labelled and others unlabelled, both balanced by seed."""
    images, labels = train
    chosen, others = few_label_rows(labels, num_labels, num_unlabeled, seed)
    return Images(images[chosen], labels[chosen], images[others], test[0], test[1], classes=CLASSES)
