"""Run a teacher, one model or several, over shards of images: one shard in, one shard out.

torch is imported by whoever predicts: a driver that only says what to predict has no need of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pipeline.data.features import check_features, features_table, read_feature_shard
from pipeline.data.predictions import predictions_table
from pipeline.data.rows import SIZE, sizes_of
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
from pipeline.models.head import LinearHead, read_head, reads_features
from pipeline.models.spec import read_spec
from pipeline.params import EvaluateParams, PredictParams
from pipeline.progress import Advance
from pipeline.tasks import Task, noted, open_task
from pipeline.tasks.task import Array

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.models.checkpoint import Checkpoint
    from pipeline.models.passes import Passes


@dataclass
class ShardPredictor:
    """Predicts one shard of `folder` a call; the models are loaded at the first call and stay.

    params: `device` and `precision` auto mean what suits the machine where the predictor works, the
    models and the number of images in the whole `folder`.

    Of several models the answers are merged with equal weight; each sees the images with
    its own normalisation and temperature. The same shard gives the same bytes, whoever predicts it
    and in whatever order. Where the shards of `folder` and `out` are in storage, a predictor needs
    nothing of the machine that it works on but the models.

    features: the stored features of `folder`, for models that are heads on them; embeddings: where
    what the last network's classifier reads of each image goes, None for nowhere.
    """

    models: tuple[Path, ...]
    folder: Path
    out: Path | StoredFolder
    params: PredictParams
    seed: int
    features: Path | None = None
    embeddings: Path | StoredFolder | None = None

    @property
    def threads(self) -> int:
        """Of the CPU."""
        return self.params.threads

    @property
    def device(self) -> str:
        """As the parameters say it."""
        return self.params.device

    @cached_property
    def heads(self) -> dict[int, LinearHead]:
        """The models that read stored features, by their place among the models.

        Raises CheckpointError where the models are of different classes.
        """
        first = read_spec(self.models[0]).classes
        for model in self.models:
            if read_spec(model).classes != first:
                raise CheckpointError(f"{model}: of other classes than {self.models[0]}")
        if self.features is None or self.params.views != "centre":
            return {}
        return {
            place: read_head(model)
            for place, model in enumerate(self.models)
            if reads_features(read_spec(model))
        }

    @cached_property
    def networks(self) -> dict[int, Checkpoint]:
        """The other models, on their device, by their place."""
        import torch

        from pipeline.models.checkpoint import load_checkpoint
        from pipeline.models.passes import resolve_device

        torch.set_num_threads(self.threads)
        others = {k: m for k, m in enumerate(self.models) if k not in self.heads}
        networks = {place: load_checkpoint(model) for place, model in others.items()}
        for network in networks.values():
            network.network.to(resolve_device(self.device))
        return networks

    @cached_property
    def passes(self) -> dict[int, Passes]:
        """How each of these predicts the images of the whole folder, by its place."""
        from pipeline.evaluate.checkpoints import checkpoint_passes

        rows, params = self.manifest.rows, self.params
        return {
            place: checkpoint_passes(network, rows, params, precision=params.precision)
            for place, network in self.networks.items()
        }

    @cached_property
    def task(self) -> Task:
        """What the models say of images."""
        return open_task(read_spec(self.models[0]).task)

    @property
    def needs_images(self) -> bool:
        """Whether any of the models sees images, or all read stored features."""
        return len(self.heads) < len(self.models)

    def fetched(self, fetch: Callable[[Path], Path]) -> Self:
        """The same with models and features where `fetch` says they lie here."""
        clone = copy(self)  # with the manifest that the driver has read: the folder may be far away
        clone.models = tuple(map(fetch, self.models))
        clone.features = None if self.features is None else fetch(self.features)
        return clone

    @cached_property
    def manifest(self) -> Manifest:
        """What there is to predict; raises DataError where features are of other images."""
        if self.features is not None and self.heads:
            check_features(self.features, self.folder)
        return read_manifest(self.folder)

    def __call__(self, number: int) -> int:
        """Predict shard `number`; returns its number of rows."""
        shard = check_shard(self.folder, self.manifest.shards[number])
        own = [item.name for item in SIZE] if self.task.keeps_whole else []
        rows = read_shard(shard, ["id", *own])
        ids = rows.column("id").to_pylist()
        members = self._by_features(number)
        if self.needs_images:
            members |= self._by_images(shard, number, ids)
        answers, precisions = zip(*(members[k] for k in range(len(self.models))), strict=True)
        spec, count = read_spec(self.models[0]), len(answers)
        merged = self.task.merge(answers, [1 / count] * count, len(spec.classes))
        if own:
            merged = self.task.outside(merged, sizes_of(rows, shard))
        columns = self.task.prediction_columns(merged)
        write_derived(self.out, shard.name, predictions_table(ids, number, columns, precisions))
        return len(ids)

    def _by_features(self, number: int) -> dict[int, tuple[Array, str]]:
        """What each head says of a shard, and in which precision, by its place."""
        if not self.heads or self.features is None:
            return {}
        manifest = read_manifest(self.features)
        features, members = read_feature_shard(self.features, manifest, number), {}
        for place, head in self.heads.items():
            spec = read_spec(self.models[place])
            if spec.body != manifest.metadata["body"]:
                raise DataError(
                    f"{self.features}: not of the body that {self.models[place]} reads; run the "
                    "stages embed and train again"
                )
            members[place] = (head.log_probs(features, spec.temperature), "float32")
        return members

    def _by_images(
        self, shard: Shard, number: int, ids: Sequence[str]
    ) -> dict[int, tuple[Array, str]]:
        """The same of each network; the features of the last one go to `embeddings`, if any."""
        from pipeline.data.tensors import decoding_pool, shard_images, stored_shape
        from pipeline.evaluate.checkpoints import checkpoint_predictions
        from pipeline.evaluate.views import num_views
        from pipeline.models.parts import features_read, mean_features

        params, members = self.params, dict[int, tuple[Array, str]]()
        shape = stored_shape(self.folder, self.manifest)
        with decoding_pool(self.threads) as pool, ExitStack() as stack:
            images = shard_images(shard, shape, pool)
            for place, network in self.networks.items():
                passes = self.passes[place]
                read: list[Tensor] = []
                if place == max(self.networks) and self.embeddings is not None:
                    read = stack.enter_context(features_read(network.network))
                seed = self.seed + number
                answers = checkpoint_predictions(network, images, params, seed=seed, passes=passes)
                members[place] = (answers, passes.precision)
        if self.embeddings is not None:
            features = mean_features(read, len(ids), num_views(params))
            write_derived(self.embeddings, shard.name, features_table(ids, features.numpy()))
        return members


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
    params: EvaluateParams,
    *,
    features: Path | None = None,
    advance: Advance | None = None,
) -> None:
    """Write what one model thinks of the images of `folder` to `out`, from one centre view each.

    features: the stored ones of `folder`, for a head; `advance` is told the images done.
    """
    centre = PredictParams(
        batch_size=params.batch_size,
        threads=params.threads,
        device=params.device,
        precision="float32",
    )
    predictor = ShardPredictor((model,), folder, out, centre, seed=0, features=features)
    for number in missing_shards(folder, out):
        rows = predictor(number)
        if advance is not None:
            advance(rows)
    classes = read_spec(model).classes
    finish_predictions(folder, out, len(classes), notes=noted(predictor.task))
