"""What a run trains on: labelled, pseudo-labelled and validation images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from pipeline.data.streamed import ShardStream
from pipeline.tasks import Task, open_task


@dataclass(frozen=True)
class TrainingData:
    """The tensors of one run.

    images: (N, C, S, S) uint8; labels: (N, …), the task's targets; mean, std: per channel, of
    [0, 1]. Images that do not fit into memory come from a stream instead, which brings its targets
    along: labeled_stream and unlabeled_stream; images and labels are empty then.
    unlabeled_images: (M, C, S, S) uint8; unlabeled_rows: (R,) int64, a row of unlabeled_images for
    each time a pseudo-label counts; unlabeled_targets: (R, …), the task's pseudo-labels.
    unlabeled_boxes: (M, 4) int16, where the images lie in their squares (pipeline.augment.boxes),
    of streamed ones too; None where they fill them. num_classes: K; None: one more than the largest
    label. taught: (N, …), pseudo-labels of the labelled images, where the teacher is distilled.
    """

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    unlabeled_images: Tensor | None = None
    unlabeled_rows: Tensor | None = None
    unlabeled_targets: Tensor | None = None
    unlabeled_boxes: Tensor | None = None
    validation_images: Tensor | None = None
    validation_labels: Tensor | None = None
    num_classes: int | None = None
    taught: Tensor | None = None
    labeled_stream: ShardStream | None = None
    unlabeled_stream: ShardStream | None = None
    task: Task = field(default_factory=lambda: open_task("classification"))

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of what the network sees one by one: (C, S, S)."""
        stream = self.labeled_stream
        return tuple(self.images.shape[1:]) if stream is None else stream.shape

    @property
    def has_pseudo_labels(self) -> bool:
        """Whether there is anything pseudo-labelled to train on."""
        if self.unlabeled_stream is not None:
            return len(self.unlabeled_stream) > 0
        return self.unlabeled_rows is not None and len(self.unlabeled_rows) > 0

    @property
    def class_count(self) -> int:
        """The number of classes that the data is of, K."""
        return self.num_classes or int(self.labels.max()) + 1

    def class_shares(self, device: torch.device) -> Tensor:
        """The share of each class among the labels: (K,) on `device`."""
        stream = self.labeled_stream
        parts = [self.labels] if stream is None else stream.every_target()
        num_classes = self.class_count
        counts = torch.zeros(num_classes, dtype=torch.int64, device=device)
        for part in parts:
            counts += self.task.class_counts(part.to(device), num_classes)
        return counts.float() / counts.sum()

    def to(self, device: torch.device) -> TrainingData:
        """The same with its tensors on `device`."""
        moved: dict[str, Any] = {
            key: value.to(device) for key, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def normalized(self, pixels: Tensor) -> Tensor:
        """(n, C, S, S) in [0, 1] → the same by each channel's mean and deviation."""
        mean = torch.tensor(self.mean, device=pixels.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(1, -1, 1, 1)
        return (pixels - mean) / std
