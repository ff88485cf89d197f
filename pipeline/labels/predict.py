"""Run a teacher, one model or several, over shards of images: one shard in, one shard out.

torch is imported by whoever predicts: a driver that only says what to predict has no need of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pipeline.data.features import check_features, features_table, read_feature_shard
from pipeline.data.predictions import predictions_table
from pipeline.data.shards import (
    Manifest,
    Shard,
    check_shard,
    read_manifest,
    read_shard,
)
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import finish_derived, missing_shards, write_derived
from pipeline.errors import CheckpointError, DataError
from pipeline.evaluate.ensemble import average_log_probs
from pipeline.models.head import Floats, LinearHead, read_head, reads_features
from pipeline.models.spec import read_spec
from pipeline.progress import Advance

if TYPE_CHECKING:
    from torch import Tensor

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

    features: the stored features of `folder`, for models that are heads on them; embeddings: where
    what the last network's classifier reads of each image goes, None for nowhere.
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
    features: Path | None = None
    embeddings: Path | StoredFolder | None = None

    @cached_property
    def teachers(self) -> list[Checkpoint | LinearHead]:
        """The models, networks on their device; raises CheckpointError where classes differ."""
        first = read_spec(self.models[0]).classes
        for model in self.models:
            if read_spec(model).classes != first:
                raise CheckpointError(f"{model}: of other classes than {self.models[0]}")
        return [
            read_head(model) if self._reads_features(model) else self._network(model)
            for model in self.models
        ]

    def _reads_features(self, model: Path) -> bool:
        """Whether a model is asked by stored features: a head, seen from the centre."""
        known = self.features is not None and self.views == "centre"
        return known and reads_features(read_spec(model))

    def _network(self, model: Path) -> Checkpoint:
        import torch

        from pipeline.models.checkpoint import load_checkpoint
        from pipeline.models.passes import resolve_device

        torch.set_num_threads(self.threads)
        teacher = load_checkpoint(model)
        teacher.network.to(resolve_device(self.device))
        return teacher

    @property
    def needs_images(self) -> bool:
        """Whether any of the models looks at images, or all read stored features."""
        return not all(self._reads_features(model) for model in self.models)

    def fetched(self, fetch: Callable[[Path], Path]) -> Self:
        """The same with models and features where `fetch` says they lie here."""
        here = copy(self)  # with the manifest that the driver has read: the folder may be far away
        here.models = tuple(map(fetch, self.models))
        here.features = None if self.features is None else fetch(self.features)
        return here

    @cached_property
    def manifest(self) -> Manifest:
        """What there is to predict; raises DataError where features are of other images."""
        if self.features is not None and any(map(self._reads_features, self.models)):
            check_features(self.features, self.folder)
        return read_manifest(self.folder)

    def __call__(self, number: int) -> int:
        """Predict shard `number`; returns its number of rows."""
        shard = check_shard(self.folder, self.manifest.shards[number])
        ids = read_shard(shard, ["id"]).column("id").to_pylist()
        found = self._by_features(number)
        if self.needs_images:
            found |= self._by_images(shard, number, ids)
        members = [found[place] for place in range(len(self.models))]
        log_probs = average_log_probs([member for member, _ in members]).astype(np.float32)
        table = predictions_table(ids, number, log_probs, [precision for _, precision in members])
        write_derived(self.out, shard.name, table)
        return len(ids)

    def _by_features(self, number: int) -> dict[int, tuple[Floats, str]]:
        """What each head says of a shard, and in which precision, by its place among the models."""
        heads = {n: t for n, t in enumerate(self.teachers) if isinstance(t, LinearHead)}
        if not heads or self.features is None:
            return {}
        manifest = read_manifest(self.features)
        seen = read_feature_shard(self.features, manifest, number)
        specs = {place: read_spec(self.models[place]) for place in heads}
        for place, spec in specs.items():
            if spec.body != manifest.metadata["body"]:
                raise DataError(
                    f"{self.features}: not of the body that {self.models[place]} reads; run the "
                    "stages embed and train again"
                )
        return {
            place: (head.log_probs(seen, specs[place].temperature), "float32")
            for place, head in heads.items()
        }

    def _by_images(
        self, shard: Shard, number: int, ids: Sequence[str]
    ) -> dict[int, tuple[Floats, str]]:
        """What each network says of a shard, and in which precision, by its place; the features
        of the last one go to `embeddings` where that is asked for."""
        from pipeline.data.tensors import decoding_pool, shard_images, stored_shape
        from pipeline.evaluate.checkpoints import checkpoint_log_probs, checkpoint_passes
        from pipeline.evaluate.views import num_views
        from pipeline.models.parts import features_read, mean_features
        from pipeline.models.passes import resolve_device

        shape = stored_shape(self.folder, self.manifest)
        views: dict[str, Any] = {
            "view": self.views,
            "jitter_views": self.jitter_views,
            "batch_size": self.batch_size,
        }
        networks = {n: t for n, t in enumerate(self.teachers) if not isinstance(t, LinearHead)}
        last = max(networks)
        found = {}
        with decoding_pool(self.threads) as pool:
            images = shard_images(shard, shape, pool)
            for place, teacher in networks.items():
                passes = checkpoint_passes(
                    teacher, self.manifest.rows, precision=self.precision, **views
                )
                embeds = place == last and self.embeddings is not None
                reading: AbstractContextManager[list[Tensor]] = (
                    features_read(teacher.network) if embeds else nullcontext([])
                )
                with reading as read:
                    log_probs = checkpoint_log_probs(
                        teacher,
                        images,
                        passes=passes,
                        seed=self.seed + number,
                        device=str(resolve_device(self.device)),
                        **views,
                    )
                found[place] = (log_probs, passes.precision)
                if place == last and self.embeddings is not None:
                    seen = mean_features(read, len(ids), num_views(self.views, self.jitter_views))
                    write_derived(self.embeddings, shard.name, features_table(ids, seen.numpy()))
        return found


def finish_predictions(
    folder: Path,
    out: Path | StoredFolder,
    num_classes: int,
    *,
    manifest_in: Path | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write the manifest of the predictions in `out`; raises DataError where one is missing.

    manifest_in: the local folder for it, `out` itself if that is local; notes: what else it says.
    """
    metadata = {"num_classes": num_classes, **(notes or {})}
    return finish_derived(folder, out, metadata, manifest_in=manifest_in)


def predict_folder(
    model: Path,
    folder: Path,
    out: Path,
    *,
    batch_size: int,
    threads: int,
    device: str = "cpu",
    features: Path | None = None,
    advance: Advance | None = None,
) -> None:
    """Write what one model thinks of the images of `folder` to `out`, from one centre view each.

    features: the stored ones of `folder`, for a head; `advance` is told the images done.
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
        device=device,
        features=features,
    )
    for number in missing_shards(folder, out):
        rows = predictor(number)
        if advance is not None:
            advance(rows)
    finish_predictions(folder, out, len(read_spec(model).classes))
