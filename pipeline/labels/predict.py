"""Run a teacher over shards of unlabelled images: one shard in, one shard out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from pipeline.data.predictions import predictions_table
from pipeline.data.shards import (
    Manifest,
    ShardEntry,
    check_shard,
    read_manifest,
    read_shard,
    write_manifest,
    write_shard,
)
from pipeline.data.tensors import load_shard_images, stored_shape
from pipeline.errors import DataError, SelftrainError
from pipeline.evaluate.views import predict_log_probs
from pipeline.files import file_digest
from pipeline.models.checkpoint import Checkpoint, load_checkpoint


@dataclass
class ShardPredictor:
    """Predicts one shard a call; the teacher is loaded at the first call and stays.

    The same shard gives the same bytes, whoever predicts it and in whatever order.
    """

    model: Path
    unlabeled: Path
    out: Path
    views: str
    jitter_views: int
    batch_size: int
    seed: int
    threads: int = 1
    device: str = "cpu"

    @cached_property
    def teacher(self) -> Checkpoint:
        """The teacher, on its device."""
        torch.set_num_threads(self.threads)
        checkpoint = load_checkpoint(self.model)
        checkpoint.network.to(self.device)
        return checkpoint

    @cached_property
    def manifest(self) -> Manifest:
        """What there is to predict."""
        return read_manifest(self.unlabeled)

    def __call__(self, number: int) -> int:
        """Predict shard `number` of the unlabelled images; returns its number of rows."""
        path = check_shard(self.unlabeled, self.manifest.shards[number])
        ids = read_shard(path, ["id"]).column("id").to_pylist()
        shape = stored_shape(self.unlabeled, self.manifest)
        spec = self.teacher.spec
        log_probs = predict_log_probs(
            self.teacher.network,
            load_shard_images(path, shape, threads=self.threads),
            mean=spec.mean,
            std=spec.std,
            temperature=spec.temperature,
            view=self.views,
            jitter_views=self.jitter_views,
            batch_size=self.batch_size,
            seed=self.seed + number,
            device=self.device,
        )
        write_shard(self.out / path.name, predictions_table(ids, number, log_probs))
        return len(ids)


def unpredicted(unlabeled: Path, out: Path) -> list[int]:
    """The numbers of the shards that `out` does not hold whole."""
    return [
        number
        for number, entry in enumerate(read_manifest(unlabeled).shards)
        if _rows_of(out / entry.file) != entry.rows
    ]


def finish_predictions(unlabeled: Path, out: Path, num_classes: int) -> Manifest:
    """Write the manifest of the predictions in `out`; raises DataError where one is missing."""
    if missing := unpredicted(unlabeled, out):
        raise DataError(f"{out}: no predictions for shards {missing[:5]}; run the stage again")
    entries = [
        ShardEntry(entry.file, entry.rows, file_digest(out / entry.file))
        for entry in read_manifest(unlabeled).shards
    ]
    return write_manifest(out, entries, {"num_classes": num_classes})


def _rows_of(path: Path) -> int | None:
    try:
        table: Any = read_shard(path, ["row"])
    except SelftrainError:
        return None
    return int(table.num_rows)
