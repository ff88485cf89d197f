"""What features add to a teacher's predictions: what neighbours say, and who is a stranger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.features import COLUMN, body_of, features_metadata, load_features
from pipeline.data.predictions import predictions_table, read_predictions
from pipeline.data.shards import (
    Manifest,
    read_entry,
    read_labels,
    read_manifest,
    read_shard,
    write_shard,
)
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import finish_derived, missing_shards
from pipeline.labels.predict import ShardPredictor, finish_predictions
from pipeline.labels.strangers import find_strangers
from pipeline.labels.teaching import Teaching, refined_log_probs
from pipeline.models.head import reads_features
from pipeline.models.spec import model_digest, read_spec
from pipeline.params import PredictParams, PropagationParams

EMBEDDINGS = "embeddings"  # the folder of a teacher's own features


def has_features(features: Path) -> bool:
    """Whether a frozen body has made features of the unlabelled images."""
    return body_of(features / "unlabeled") is not None


def needs_own_features(predict: PredictParams, teacher: Path) -> bool:
    """Whether neighbours are looked for in features that the teacher makes itself."""
    return predict.propagation is not None and not reads_features(read_spec(teacher))


@dataclass(frozen=True)
class PseudoLabeling:
    """What teachers think of the unlabelled images, and what features add to it.

    models: the teachers, the last one last; features: the folder of those of the parts of
    `prepared`; scratch: where predictions/ will be; out: where the teachers' predictions go shard
    by shard; embeddings: where the last teacher's own features go, None where it needs none.
    """

    prepared: Path
    features: Path
    models: tuple[Path, ...]
    predict: PredictParams
    seed: int
    scratch: Path
    out: Path | StoredFolder
    embeddings: Path | StoredFolder | None

    @property
    def predictor(self) -> ShardPredictor:
        """What predicts the unlabelled images."""
        predict = self.predict
        return ShardPredictor(
            models=self.models,
            folder=self.prepared / "unlabeled",
            out=self.out,
            views=predict.views,
            jitter_views=predict.jitter_views,
            batch_size=predict.batch_size,
            seed=self.seed,
            threads=predict.threads,
            precision=predict.precision,
            device=predict.device,
            features=self.features / "unlabeled" if has_features(self.features) else None,
            embeddings=self.embeddings,
        )

    def finish(self) -> Manifest:
        """Once all shards are predicted: write scratch/predictions, refined where features say
        more."""
        images, num_classes = self.prepared / "unlabeled", len(read_spec(self.models[0]).classes)
        finished = self.scratch / "predictions"
        if not has_features(self.features) and self.predict.propagation is None:
            return finish_predictions(images, self.out, num_classes, manifest_in=finished)
        by_teacher = self.scratch / "by_teacher"
        finish_predictions(images, self.out, num_classes, manifest_in=by_teacher)
        self._refine(by_teacher, finished)
        notes = Teaching(propagation=self.predict.propagation).noted()
        return finish_predictions(images, finished, num_classes, notes=notes)

    def _refine(self, predictions: Path, out: Path) -> None:
        labels = read_labels(self.prepared / "labeled")
        strangers = features = labeled_features = None
        if has_features(self.features):
            labeled_features, features = (
                load_features(self.features / part, self.prepared / part)
                for part in ("labeled", "unlabeled")
            )
            strangers = find_strangers(labeled_features, labels, features)
        if self.embeddings is not None:
            labeled_features, features = self._embedded(self.embeddings)
        refine_predictions(
            predictions,
            out,
            features=features,
            labeled_features=labeled_features,
            labels=labels,
            propagation=self.predict.propagation,
            strangers=strangers,
            threads=self.predict.threads,
        )

    def _embedded(self, unlabeled: Path | StoredFolder) -> tuple[NDArray[Any], NDArray[Any]]:
        """The teacher's own features of the labelled images, made here, and of the unlabelled."""
        from pipeline.models.embed import ShardEmbedder

        predict, images, teacher = self.predict, self.prepared / "labeled", self.models[-1]
        scratch = self.scratch / EMBEDDINGS
        labeled = scratch / "labeled"
        embed = ShardEmbedder(
            (teacher,), images, labeled, predict.batch_size, predict.threads, predict.device
        )
        for number in missing_shards(images, labeled):
            embed(number)
        first = read_shard(labeled / embed.manifest.shards[0].file, [COLUMN])
        width = first.schema.field(COLUMN).type.list_size
        arrays: list[NDArray[np.float16]] = []
        for part, out in (("labeled", labeled), ("unlabeled", unlabeled)):
            images, manifest_in = self.prepared / part, scratch / part
            metadata = features_metadata(images, model_digest(teacher), width)
            finish_derived(images, out, metadata, manifest_in=manifest_in)
            arrays.append(load_features(manifest_in, images))
        return arrays[0], arrays[1]


def refine_predictions(
    predictions: Path,
    out: Path,
    *,
    features: NDArray[Any] | None,
    labeled_features: NDArray[Any] | None,
    labels: NDArray[np.int64],
    propagation: PropagationParams | None,
    strangers: NDArray[np.bool_] | None,
    threads: int = 1,
) -> None:
    """Write the predictions of the folder `predictions` to `out`, shard for shard, refined.

    features: (M, F) of the predicted images, labeled_features: (N, F), labels: (N,); where there is
    `propagation` the predictions are combined with what neighbours say in these. strangers: (M,)
    which images show none of the classes, None where nobody looked. Raises DataError.
    """
    shards = list(read_predictions(predictions))
    log_probs = np.concatenate([shard.log_probs for shard in shards])
    log_probs = refined_log_probs(
        log_probs,
        Teaching(propagation=propagation),
        features=features,
        labeled_features=labeled_features,
        labels=labels,
        threads=threads,
    )
    start = 0
    entries = read_manifest(predictions).shards
    for number, (entry, shard) in enumerate(zip(entries, shards, strict=True)):
        rows = slice(start, start + len(shard.ids))
        metadata = read_entry(predictions, entry, ["id"]).schema.metadata
        table = predictions_table(
            shard.ids,
            number,
            log_probs[rows],
            metadata[b"precision"].decode().split(", "),
            None if strangers is None else strangers[rows],
        )
        write_shard(out / entry.file, table)
        start = rows.stop
