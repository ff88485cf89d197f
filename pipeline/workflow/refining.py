"""Features for the stage pseudo_label: the teacher's own, or those of the frozen body."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.features import COLUMN, body_of, features_metadata, load_features
from pipeline.data.shards import read_labels, read_shard
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import finish_derived, mark_in_use, missing_shards, stored_prefix
from pipeline.files import value_digest
from pipeline.labels.strangers import find_strangers
from pipeline.labels.teaching import refine_predictions
from pipeline.models.head import reads_features
from pipeline.models.spec import model_digest, read_spec
from pipeline.workflow.stage import Run, Stage

EMBEDDINGS = "embeddings"


def embeddings_of(
    stage: Stage, run: Run, teacher: Path, storage: StoredFolder | None
) -> Path | StoredFolder | None:
    """Where the teacher's features of the unlabelled images go as it predicts them.

    None where nobody asks neighbours in them, or the frozen body's are the teacher's.
    """
    if stage.params.predict.propagation is None or reads_features(read_spec(teacher)):
        return None
    if storage is None:
        return run.scratch / EMBEDDINGS / "unlabeled"
    out = stored_prefix(storage, "features", value_digest([run.fingerprint, "unlabeled"]))
    mark_in_use(out)
    return out


def refine(
    stage: Stage,
    run: Run,
    teacher: Path,
    predictions: Path,
    out: Path,
    embeddings: Path | StoredFolder | None,
) -> None:
    """Write the predictions to `out`, with what features add to them."""
    layout, predict = stage.layout, stage.params.predict
    labels = read_labels(layout.prepared / "labeled")
    frozen = None
    if body_of(layout.features("unlabeled")) is not None:
        frozen = tuple(
            load_features(layout.features(part), layout.prepared / part)
            for part in ("labeled", "unlabeled")
        )
    own = frozen
    if embeddings is not None:
        own = _embedded(stage, run, teacher, embeddings)
    strangers = None if frozen is None else find_strangers(frozen[0], labels, frozen[1])
    refine_predictions(
        predictions,
        out,
        features=None if own is None else own[1],
        labeled_features=None if own is None else own[0],
        labels=labels,
        propagation=predict.propagation,
        strangers=strangers,
        threads=predict.threads,
    )


def _embedded(
    stage: Stage, run: Run, teacher: Path, embeddings: Path | StoredFolder
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The teacher's own features of the labelled images, made here, and of the unlabelled."""
    from pipeline.models.embed import ShardEmbedder

    layout, predict = stage.layout, stage.params.predict
    folder, noted = run.scratch / EMBEDDINGS, model_digest(teacher)
    images = layout.prepared / "labeled"
    embed = ShardEmbedder(
        (teacher,), images, folder / "labeled", predict.batch_size, predict.threads, predict.device
    )
    for number in missing_shards(images, folder / "labeled"):
        embed(number)
    first = read_shard(folder / "labeled" / embed.manifest.shards[0].file, [COLUMN])
    width = first.schema.field(COLUMN).type.list_size
    found: list[NDArray[np.float16]] = []
    for part, out in (("labeled", folder / "labeled"), ("unlabeled", embeddings)):
        images = layout.prepared / part
        finish_derived(
            images, out, features_metadata(images, noted, width), manifest_in=folder / part
        )
        found.append(load_features(folder / part, images))
    return found[0], found[1]
