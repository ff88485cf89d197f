"""The tensors of a training run, from the prepared folders and the pseudo-labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.data.predictions import PseudoLabels, read_pseudo_labels
from pipeline.data.shards import read_manifest
from pipeline.data.tensors import ImageSet, load_images, read_dataset
from pipeline.errors import DataError
from pipeline.train.batch import TrainingData


def training_data(
    prepared: Path, pseudo_labels: Path | None, *, threads: int, cache_gib: float
) -> TrainingData:
    """Load what one run trains on; `pseudo_labels` None for generation 0.

    Raises DataError where a shard is unusable or the images exceed `cache_gib` GiB.
    """
    dataset = read_dataset(prepared)
    labeled = load_images(prepared / "labeled", threads=threads, cache_gib=cache_gib)
    validation = load_images(prepared / "validation", threads=threads, cache_gib=cache_gib)
    for part, images in (("labeled", labeled), ("validation", validation)):
        _check_labels(prepared / part, images.labels, len(dataset.classes))
    data = TrainingData(labeled.images, labeled.labels, dataset.mean, dataset.std)
    more: dict[str, Any] = {"num_classes": len(dataset.classes)}
    if len(validation):
        more |= {
            "validation_images": validation.images,
            "validation_labels": validation.labels,
        }
    if pseudo_labels is not None:
        unlabeled = load_images(prepared / "unlabeled", threads=threads, cache_gib=cache_gib)
        more |= _pseudo_labeled(prepared / "unlabeled", unlabeled, pseudo_labels)
        if more["unlabeled_targets"].shape[1] != len(dataset.classes):
            raise DataError(f"{pseudo_labels}: not of the {len(dataset.classes)} classes of now")
    return replace(data, **more)


def _check_labels(folder: Path, labels: torch.Tensor, num_classes: int) -> None:
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise DataError(f"{folder}: a label is missing or not one of the {num_classes} classes")


def _check_places(folder: Path, chosen: PseudoLabels, counts: NDArray[np.int64]) -> None:
    """Raise DataError where pseudo-labels are of other images than the shards of `counts` rows."""
    known = (chosen.shard >= 0) & (chosen.shard < len(counts)) & (chosen.row >= 0)
    if not known.all() or (chosen.row >= counts[chosen.shard]).any():
        raise DataError(f"{folder}: not of the prepared images; run select again")


def _pseudo_labeled(folder: Path, unlabeled: ImageSet, pseudo_labels: Path) -> dict[str, Any]:
    chosen = read_pseudo_labels(pseudo_labels)
    counts = [entry.rows for entry in read_manifest(folder).shards]
    starts = np.cumsum([0, *counts])[:-1]
    _check_places(pseudo_labels, chosen, np.array(counts))
    rows = starts[chosen.shard] + chosen.row if len(chosen.row) else chosen.row
    return {
        "unlabeled_images": unlabeled.images,
        "unlabeled_rows": torch.from_numpy(rows.astype(np.int64)),
        "unlabeled_targets": torch.from_numpy(chosen.targets),
    }
