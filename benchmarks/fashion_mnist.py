"""Fashion-MNIST as tensors, from one Parquet file: columns image (PNG), label and split."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from benchmarks.in_process import Images
from pipeline.data.images import decode_png
from pipeline.progress import say

NUM_CLASSES = 10


def parse_arguments(parser: argparse.ArgumentParser) -> argparse.Namespace | None:
    """What the command line of a benchmark on this file says, with its `data` and `seeds`.

    None, once that is said, where the file is not there.
    """
    parser.add_argument("--data", type=Path, required=True, help="fashion_mnist.parquet")
    parser.add_argument("--seeds", type=int, default=3, choices=range(2, 6))
    given = parser.parse_args()
    if given.data.is_file():
        return given
    say(f"{given.data}: not there; nothing is measured")
    return None


def fashion_part(path: Path, split: str, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` images of a split, (n, 1, 28, 28) uint8, and their labels, (n,) int64."""
    rows = pq.read_table(path, columns=["image", "label"], filters=[("split", "==", split)])
    rows = rows.slice(0, count)
    pixels = np.stack([decode_png(image) for image in rows.column("image").to_pylist()])
    labels = torch.tensor(rows.column("label").to_pylist())
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), labels


def shuffled_by_class(labels: Tensor, seed: int) -> list[Tensor]:
    """The rows of each class in an order by seed."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    return [order[labels[order] == number] for number in range(NUM_CLASSES)]


def balanced_rows(labels: Tensor, per_class: int, seed: int) -> Tensor:
    """`per_class` rows of each class, by seed."""
    return torch.cat([rows[:per_class] for rows in shuffled_by_class(labels, seed)])


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
    return Images(
        labeled=images[chosen],
        labels=labels[chosen],
        unlabeled=images[others],
        test=test[0],
        test_labels=test[1],
        classes=tuple(str(number) for number in range(NUM_CLASSES)),
    )
