"""The tensors of a training run, from the prepared folders and the pseudo-labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.blocks import PseudoLabelReader
from pipeline.data.fit import place_of
from pipeline.data.predictions import PseudoLabels, num_classes_of, read_pseudo_labels
from pipeline.data.rows import read_sizes
from pipeline.data.shards import read_manifest
from pipeline.data.streamed import ShardStream
from pipeline.data.tensors import (
    Dataset,
    images_that_fit,
    load_images,
    read_dataset,
)
from pipeline.errors import DataError
from pipeline.models.spec import ModelSpec
from pipeline.tasks import Task, open_task
from pipeline.train.losses import IGNORED
from pipeline.train.training_data import TrainingData

CHECKED = 1024  # images whose labels are looked at together


def model_spec(
    dataset: Dataset, network: dict[str, Any], *, generation: str, teacher: str | None = None
) -> ModelSpec:
    """The model that `network` (ModelParams.network) is on these images, its logits as they come.

    teacher: the digest of the model that taught it.
    """
    return ModelSpec(
        network=network,
        classes=list(dataset.classes),
        image_size=dataset.image_size,
        channels=dataset.channels,
        mean=list(dataset.mean),
        std=list(dataset.std),
        generation=generation,
        teacher=teacher,
        bits=dataset.bits,
        task=dataset.task,
    )


def training_data(
    prepared: Path,
    pseudo_labels: Path | None,
    *,
    threads: int,
    cache_gib: float,
    cache: Path | None = None,
) -> TrainingData:
    """Load what one run trains on; `pseudo_labels` None for generation 0.

    Images to train on that would take more than `cache_gib` GiB in memory, with their masks, are
    streamed from their shards. `cache`: a folder in which the workers of a node share what one of
    them has decoded.
    Raises DataError where a shard is unusable or the validation images exceed `cache_gib`.
    """

    dataset = read_dataset(prepared)
    task, num_classes = open_task(dataset.task), len(dataset.classes)

    def load(name: str) -> tuple[Tensor, Tensor]:
        loaded = load_images(
            prepared / name, task=task, threads=threads, cache_gib=cache_gib, cache=cache
        )
        return loaded.images, loaded.targets

    def stream(name: str, chosen: Path | None = None) -> ShardStream | None:
        """The images of a folder as a stream, None where they fit into memory."""
        room = images_that_fit(prepared / name, cache_gib, task)
        if read_manifest(prepared / name).rows <= room:
            return None
        reader: dict[str, Any] = {
            "pseudo_labels": None if chosen is None else PseudoLabelReader(chosen, task)
        }
        if chosen is None:
            reader["targets"] = _Targets(prepared / name, task, dataset.image_size, num_classes)
        # Two windows are held at a time.
        return ShardStream(prepared / name, window=room // 2, threads=threads, **reader)

    more: dict[str, Any] = {"num_classes": num_classes, "task": task}
    more["labeled_stream"] = stream("labeled")
    images = torch.empty(0, dtype=torch.uint8)
    none = pa.chunked_array([], task.target.type)
    labels = torch.from_numpy(task.load(none, dataset.image_size))
    if more["labeled_stream"] is None:
        images, labels = load("labeled")
    validation_images, validation_labels = load("validation")
    for part, part_labels in (("labeled", labels), ("validation", validation_labels)):
        _check_labels(prepared / part, part_labels, task, num_classes)
    if len(validation_images):
        more |= {"validation_images": validation_images, "validation_labels": validation_labels}
    if pseudo_labels is not None:
        if num_classes_of(pseudo_labels, read_manifest(pseudo_labels)) != num_classes:
            raise DataError(f"{pseudo_labels}: not of the {num_classes} classes of now")
        more["unlabeled_stream"] = stream("unlabeled", pseudo_labels)
        if more["unlabeled_stream"] is None:
            more |= {"unlabeled_images": load("unlabeled")[0]}
            more |= _pseudo_labeled(prepared / "unlabeled", pseudo_labels, task)
        if task.keeps_whole:
            more["unlabeled_boxes"] = _boxes(prepared / "unlabeled", dataset.image_size)
    return replace(TrainingData(images, labels, dataset.mean, dataset.std), **more)


@dataclass(frozen=True)
class _Targets:
    """The true targets that a stream of a folder brings along, checked."""

    folder: Path
    task: Task
    side: int
    num_classes: int

    @property
    def schema(self) -> Any:
        return pa.schema([self.task.target])

    def read(self, table: Any) -> NDArray[Any]:
        targets = self.task.load(table.column(self.task.target.name), self.side)
        _check_labels(self.folder, torch.from_numpy(targets), self.task, self.num_classes)
        return targets


def _boxes(folder: Path, side: int) -> Tensor | None:
    """Where the images of a folder lie in their squares, (N, 4); None where they fill them."""
    sizes = read_sizes(folder)
    if (sizes[:, 0] == sizes[:, 1]).all():
        return None
    each = (place_of(int(width), int(height), side) for width, height in sizes)
    places = np.fromiter(each, np.dtype((np.int16, 4)), len(sizes))
    return torch.from_numpy(places[:, [1, 0, 3, 2]])


def _check_labels(folder: Path, labels: Tensor, task: Task, num_classes: int) -> None:
    for part in torch.split(labels, CHECKED):
        classes = task.classes(part)
        if not ((classes == IGNORED) | ((classes >= 0) & (classes < num_classes))).all():
            raise DataError(f"{folder}: a label is missing or not one of the {num_classes} classes")


def _check_places(folder: Path, chosen: PseudoLabels, counts: NDArray[np.int64]) -> None:
    """Raise DataError where pseudo-labels are of other images than the shards of `counts` rows."""
    known = (chosen.shard >= 0) & (chosen.shard < len(counts)) & (chosen.row >= 0)
    if not known.all() or (chosen.row >= counts[chosen.shard]).any():
        raise DataError(f"{folder}: not of the prepared images; run select again")


def _pseudo_labeled(folder: Path, pseudo_labels: Path, task: Task) -> dict[str, Any]:
    chosen = read_pseudo_labels(pseudo_labels, task)
    counts = [entry.rows for entry in read_manifest(folder).shards]
    starts = np.cumsum([0, *counts])[:-1]
    _check_places(pseudo_labels, chosen, np.array(counts))
    rows = starts[chosen.shard] + chosen.row if len(chosen.row) else chosen.row
    return {
        "unlabeled_rows": torch.from_numpy(rows.astype(np.int64)),
        "unlabeled_targets": torch.from_numpy(chosen.targets),
    }
