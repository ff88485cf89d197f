"""Photographs and pictures from above with few labels: which images, and what a body makes of them.

The files are Parquet with the columns image (bytes), label and split; the classes' names stand in
the schema's metadata, joined by |.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import runs
from pipeline.data.images import decode
from pipeline.files import file_digest, value_digest, written_whole
from pipeline.params import EmbedParams
from pipeline.self_training.loop import Features, Images
from pipeline.train.body import embedded

MAX_PIXELS = 10**8


@dataclass(frozen=True)
class Source:
    """Where a set's images lie, and at what side (pixels) they are stored.

    train, test: files; num_train, num_test: the first so many of each split, None for all.
    """

    train: str
    test: str
    image_size: int
    num_train: int | None = None
    num_test: int | None = None


SOURCES = {
    "EuroSAT": Source("eurosat.parquet", "eurosat.parquet", 64),
    "photos": Source("photos.parquet", "photos.parquet", 128),
    "CIFAR-10": Source("cifar10_train_1.parquet", "cifar10_test.parquet", 32, 5_250, 5_000),
}


@dataclass(frozen=True)
class PhotoSet:
    """images, test: (n, 3, S, S) uint8; labels, test_labels: (n,) int64."""

    images: Tensor
    labels: NDArray[np.int64]
    test: Tensor
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]


@lru_cache(maxsize=1)
def read_set(folder: Path, source: Source) -> PhotoSet:
    """The images of a source, decoded as the stage prepare does."""
    images, labels, classes = _part(folder / source.train, "train", source, source.num_train)
    test, test_labels, _ = _part(folder / source.test, "test", source, source.num_test)
    return PhotoSet(images, labels, test, test_labels, classes)


def _part(
    path: Path, split: str, source: Source, count: int | None
) -> tuple[Tensor, NDArray[np.int64], tuple[str, ...]]:
    table = pq.read_table(path, columns=["image", "label"], filters=[("split", "==", split)])
    names = pq.read_schema(path).metadata[b"classes"].decode().split("|")
    table = table.slice(0, count)
    pixels = np.stack(
        [
            decode(data, image_size=source.image_size, channels=3, max_pixels=MAX_PIXELS)
            for data in table["image"].to_pylist()
        ]
    )
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    return images, table["label"].to_numpy().astype(np.int64), tuple(names)


def body_features(
    folder: Path, source: Source, embed: EmbedParams, code: str
) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """Features (n, F) of the training and the test images, kept once made.

    code: the digest of what makes them.
    """
    files = {name: file_digest(folder / name) for name in (source.train, source.test)}
    what = {"files": files, "source": vars(source), "embed": embed.model_dump(mode="json")}
    digest = value_digest(what | {"code": code})
    path = runs.KEPT / f"photos-features-{digest[:16]}.npz"
    if not path.exists():
        data = read_set(folder, source)
        train, test = embedded([data.images, data.test], embed)
        with written_whole(path) as partial, partial.open("wb") as file:
            np.savez(file, train=train, test=test)
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["train"], arrays["test"]


def balanced_split(
    labels: NDArray[np.int64], per_class: int, split: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of `per_class` labelled images of each class, drawn by `split`, and of all others."""
    generator = np.random.default_rng(split)
    chosen = [
        generator.permutation(np.flatnonzero(labels == number))[:per_class]
        for number in range(labels.max() + 1)
    ]
    labeled = np.concatenate(chosen)
    return labeled, np.setdiff1d(np.arange(len(labels)), labeled)


def split_set(data: PhotoSet, per_class: int, split: int) -> Images:
    """A set with so many labels of each class, its other training images unlabelled."""
    labeled, unlabeled = balanced_split(data.labels, per_class, split)
    return Images(
        labeled=data.images[labeled],
        labels=torch.from_numpy(data.labels[labeled]),
        unlabeled=data.images[unlabeled],
        test=data.test,
        test_labels=torch.from_numpy(data.test_labels),
        classes=data.classes,
    )


def split_features(
    features: tuple[NDArray[np.float16], NDArray[np.float16]],
    labels: NDArray[np.int64],
    per_class: int,
    split: int,
) -> Features:
    """Features of the training images (n, F) and of the test images as split_set splits these."""
    labeled, unlabeled = balanced_split(labels, per_class, split)
    return Features(features[0][labeled], features[0][unlabeled], features[1])
