"""Run a teacher, one model or several, over shards of images: one shard in, one shard out.

torch is imported by whoever predicts: a driver that only says what to predict has no need of it.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import stored_entries, write_stored_shard
from pipeline.errors import CheckpointError, DataError, SelftrainError
from pipeline.evaluate.ensemble import average_log_probs
from pipeline.files import file_digest
from pipeline.models.spec import read_spec
from pipeline.progress import Advance

if TYPE_CHECKING:
    from pipeline.models.checkpoint import Checkpoint


@dataclass
class ShardPredictor:
    """Predicts one shard of `folder` a call; the models are loaded at the first call and stay.

    `device`, `precision`: as the parameters say them; auto means what suits the device where the
    predictor works, the models and the number of images in the whole `folder`.

    Of several models the probabilities are averaged with equal weight; each looks at the images
    with its own normalisation and temperature. The same shard gives the same bytes, whoever
    predicts it and in whatever order. Where the shards of `folder` and `out` are in storage, a
    predictor needs nothing of the machine that it works on but the models.
    """

    models: tuple[Path, ...]
    folder: Path
    out: Path | StoredFolder
    views: str
    jitter_views: int
    batch_size: int
    seed: int
    threads: int = 1
    precision: str = "float32"
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
        from pipeline.evaluate.checkpoints import checkpoint_log_probs, checkpoint_passes
        from pipeline.models.device import resolve_device

        shard = check_shard(self.folder, self.manifest.shards[number])
        ids = read_shard(shard, ["id"]).column("id").to_pylist()
        shape = stored_shape(self.folder, self.manifest)
        seen: dict[str, Any] = {
            "view": self.views,
            "jitter_views": self.jitter_views,
            "batch_size": self.batch_size,
        }
        how = [
            checkpoint_passes(teacher, self.manifest.rows, precision=self.precision, **seen)
            for teacher in self.teachers
        ]
        with shard_images(shard, shape, threads=self.threads) as images:
            members = [
                checkpoint_log_probs(
                    teacher,
                    images,
                    passes=passes,
                    seed=self.seed + number,
                    device=str(resolve_device(self.device)),
                    **seen,
                )
                for teacher, passes in zip(self.teachers, how, strict=True)
            ]
        log_probs = average_log_probs(members).astype(np.float32)
        table = predictions_table(ids, number, log_probs, [passes.precision for passes in how])
        if isinstance(self.out, StoredFolder):
            write_stored_shard(self.out, shard.name, table)
        else:
            write_shard(self.out / shard.name, table)
        return len(ids)


def unpredicted(folder: Path, out: Path | StoredFolder) -> list[int]:
    """The numbers of the shards that `out` does not hold whole."""
    shards = read_manifest(folder).shards
    return [
        number
        for number, (entry, rows) in enumerate(zip(shards, _rows_in(out, shards), strict=True))
        if rows != entry.rows
    ]


def finish_predictions(
    folder: Path, out: Path | StoredFolder, num_classes: int, *, manifest_in: Path | None = None
) -> Manifest:
    """Write the manifest of the predictions in `out`; raises DataError where one is missing.

    manifest_in: the local folder for it, `out` itself if that is local.
    """
    if missing := unpredicted(folder, out):
        raise DataError(f"{out}: no predictions for shards {missing[:5]}; run the stage again")
    shards, metadata = read_manifest(folder).shards, {"num_classes": num_classes}
    if isinstance(out, StoredFolder):
        assert manifest_in is not None
        found = stored_entries(out, [entry.file for entry in shards])
        return write_manifest(manifest_in, [entry for entry in found if entry], metadata)
    entries = [ShardEntry(e.file, e.rows, file_digest(out / e.file)) for e in shards]
    return write_manifest(manifest_in or out, entries, metadata)


def predict_folder(
    model: Path,
    folder: Path,
    out: Path,
    *,
    batch_size: int,
    threads: int,
    advance: Advance | None = None,
) -> None:
    """Write what one model thinks of the images of `folder` to `out`, from one centre view each.

    `advance` is told the images done.
    """
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
        rows = predictor(number)
        if advance is not None:
            advance(rows)
    finish_predictions(folder, out, len(read_spec(model).classes))


def _rows_in(out: Path | StoredFolder, shards: Sequence[ShardEntry]) -> list[int | None]:
    """The number of rows that `out` holds of each shard, None where it does not hold it whole."""
    if isinstance(out, StoredFolder):
        found = stored_entries(out, [entry.file for entry in shards])
        return [None if entry is None else entry.rows for entry in found]
    return [_rows_of(out / entry.file) for entry in shards]


def _rows_of(path: Path) -> int | None:
    try:
        table: Any = read_shard(path, ["row"])
    except SelftrainError:
        return None
    return int(table.num_rows)
