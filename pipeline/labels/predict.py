"""Run a teacher, one model or several, over shards of images: one shard in, one shard out.

torch is imported by whoever predicts: a driver that only says what to predict has no need of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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
from pipeline.errors import CheckpointError, DataError, SelftrainError
from pipeline.evaluate.ensemble import average_log_probs
from pipeline.files import file_digest
from pipeline.models.spec import read_spec

if TYPE_CHECKING:
    from pipeline.models.checkpoint import Checkpoint


@dataclass
class ShardPredictor:
    """Predicts one shard of `folder` a call; the models are loaded at the first call and stay.

    `device`: as the parameter says it; auto means what there is where the predictor works.

    Of several models the probabilities are averaged with equal weight; each looks at the images
    with its own normalisation and temperature. The same shard gives the same bytes, whoever
    predicts it and in whatever order.
    """

    models: tuple[Path, ...]
    folder: Path
    out: Path
    views: str
    jitter_views: int
    batch_size: int
    seed: int
    threads: int = 1
    device: str = "cpu"

    @cached_property
    def teachers(self) -> list[Checkpoint]:
        """The models, on their device; raises CheckpointError where their classes differ."""
        import torch

        from pipeline.models.checkpoint import load_checkpoint
        from pipeline.models.device import resolve_device

        torch.set_num_threads(self.threads)
        teachers = [load_checkpoint(model) for model in self.models]
        for model, teacher in zip(self.models, teachers, strict=True):
            if teacher.spec.classes != teachers[0].spec.classes:
                raise CheckpointError(f"{model}: of other classes than {self.models[0]}")
            teacher.network.to(resolve_device(self.device))
        return teachers

    @cached_property
    def manifest(self) -> Manifest:
        """What there is to predict."""
        return read_manifest(self.folder)

    def __call__(self, number: int) -> int:
        """Predict shard `number`; returns its number of rows."""
        from pipeline.data.tensors import shard_images, stored_shape
        from pipeline.evaluate.checkpoints import checkpoint_log_probs
        from pipeline.models.device import resolve_device

        path = check_shard(self.folder, self.manifest.shards[number])
        ids = read_shard(path, ["id"]).column("id").to_pylist()
        shape = stored_shape(self.folder, self.manifest)
        with shard_images(path, shape, threads=self.threads) as images:
            members = [
                checkpoint_log_probs(
                    teacher,
                    images,
                    view=self.views,
                    jitter_views=self.jitter_views,
                    batch_size=self.batch_size,
                    seed=self.seed + number,
                    device=str(resolve_device(self.device)),
                )
                for teacher in self.teachers
            ]
        log_probs = average_log_probs(members).astype(np.float32)
        write_shard(self.out / path.name, predictions_table(ids, number, log_probs))
        return len(ids)


def unpredicted(folder: Path, out: Path) -> list[int]:
    """The numbers of the shards that `out` does not hold whole."""
    return [
        number
        for number, entry in enumerate(read_manifest(folder).shards)
        if _rows_of(out / entry.file) != entry.rows
    ]


def finish_predictions(folder: Path, out: Path, num_classes: int) -> Manifest:
    """Write the manifest of the predictions in `out`; raises DataError where one is missing."""
    if missing := unpredicted(folder, out):
        raise DataError(f"{out}: no predictions for shards {missing[:5]}; run the stage again")
    entries = [
        ShardEntry(entry.file, entry.rows, file_digest(out / entry.file))
        for entry in read_manifest(folder).shards
    ]
    return write_manifest(out, entries, {"num_classes": num_classes})


def predict_folder(model: Path, folder: Path, out: Path, *, batch_size: int, threads: int) -> None:
    """Write what one model thinks of the images of `folder` to `out`, from one centre view each."""
    predictor = ShardPredictor(
        models=(model,),
        folder=folder,
        out=out,
        views="centre",
        jitter_views=1,
        batch_size=batch_size,
        seed=0,
        threads=threads,
    )
    for number in unpredicted(folder, out):
        predictor(number)
    finish_predictions(folder, out, len(read_spec(model).classes))


def _rows_of(path: Path) -> int | None:
    try:
        table: Any = read_shard(path, ["row"])
    except SelftrainError:
        return None
    return int(table.num_rows)
