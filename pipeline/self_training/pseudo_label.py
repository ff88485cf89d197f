"""What features add to a teacher's predictions: what neighbours say, and who is a stranger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.data.features import COLUMN, StoredFeatures, body_of, features_metadata
from pipeline.data.shards import (
    Manifest,
    read_labels,
    read_shard,
)
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import finish_derived, missing_shards
from pipeline.labels.predict import ShardPredictor, finish_predictions
from pipeline.labels.strangers import find_strangers
from pipeline.labels.teaching import Teaching, refine_predictions
from pipeline.models.head import reads_features
from pipeline.models.spec import model_digest, read_spec
from pipeline.params import PredictParams
from pipeline.tasks import noted

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
        return ShardPredictor(
            models=self.models,
            folder=self.prepared / "unlabeled",
            out=self.out,
            params=self.predict,
            seed=self.seed,
            features=self.features / "unlabeled" if has_features(self.features) else None,
            embeddings=self.embeddings,
        )

    def finish(self) -> Manifest:
        """Once all shards are predicted: write scratch/predictions, refined where features say
        more."""
        images, num_classes = self.prepared / "unlabeled", len(read_spec(self.models[0]).classes)
        finished = self.scratch / "predictions"
        if not has_features(self.features) and self.predict.propagation is None:
            notes = noted(self.predictor.task)
            return finish_predictions(
                images, self.out, num_classes, manifest_in=finished, notes=notes
            )
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
                StoredFeatures(self.features / part, self.prepared / part)
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

    def _embedded(self, unlabeled: Path | StoredFolder) -> list[StoredFeatures]:
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
        stored = list[StoredFeatures]()
        for part, out in (("labeled", labeled), ("unlabeled", unlabeled)):
            images, manifest_in = self.prepared / part, scratch / part
            metadata = features_metadata(images, model_digest(teacher), width)
            finish_derived(images, out, metadata, manifest_in=manifest_in)
            stored.append(StoredFeatures(manifest_in, images))
        return stored
