"""The tensors of a training run, from the prepared folders and the pseudo-labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.data.predictions import read_pseudo_labels
from pipeline.data.shards import read_manifest
from pipeline.data.tensors import ImageSet, load_images, read_dataset
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
    return replace(data, **more)


def _pseudo_labeled(folder: Path, unlabeled: ImageSet, pseudo_labels: Path) -> dict[str, Any]:
    chosen = read_pseudo_labels(pseudo_labels)
    counts = [entry.rows for entry in read_manifest(folder).shards]
    starts = np.cumsum([0, *counts])[:-1]
    rows = starts[chosen.shard] + chosen.row if len(chosen.row) else chosen.row
    return {
        "unlabeled_images": unlabeled.images,
        "unlabeled_rows": torch.from_numpy(rows.astype(np.int64)),
        "unlabeled_targets": torch.from_numpy(chosen.targets),
    }
