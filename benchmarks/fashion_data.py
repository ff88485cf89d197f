"""Fashion-MNIST (Xiao et al. 2017) from one Parquet file, split for semi-supervised learning."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.in_process import Images

CLASSES = (
    *("T-shirt", "trousers", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)


def fashion(path: Path, seed: int, num_labels: int, num_unlabeled: int) -> Images:
    """`num_labels` balanced over the classes and `num_unlabeled` others of the training part.

    Which ones is by seed; tested on the whole test part. path: columns image, label and split.
    """
    images, labels = _part(path, "train")
    labeled, unlabeled = split_rows(labels.numpy(), seed, num_labels, num_unlabeled)
    test, test_labels = _part(path, "test")
    return Images(
        labeled=images[labeled],
        labels=labels[labeled],
        unlabeled=images[unlabeled],
        test=test,
        test_labels=test_labels,
        classes=CLASSES,
    )


def split_rows(
    labels: NDArray[np.int64], seed: int, num_labels: int, num_unlabeled: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that are labelled, as many of each class, and others that are not."""
    order = np.random.default_rng(seed).permutation(len(labels))
    classes = np.unique(labels)
    each = num_labels // len(classes)
    labeled = np.concatenate([order[labels[order] == label][:each] for label in classes])
    others = order[~np.isin(order, labeled)]
    return labeled, others[:num_unlabeled]


@lru_cache(maxsize=2)  # most of a run of few steps would go into decoding
def _part(path: Path, split: str) -> tuple[Tensor, Tensor]:
    import pyarrow.parquet as pq

    from pipeline.data.images import decode_png

    rows = pq.read_table(path, columns=["image", "label"], filters=[("split", "==", split)])
    pixels = np.stack([decode_png(image) for image in rows.column("image").to_pylist()])
    labels = torch.tensor(rows.column("label").to_pylist())
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), labels
