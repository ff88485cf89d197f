"""What features add to a teacher's predictions: what neighbours say, and who is a stranger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.predictions import predictions_table, read_predictions
from pipeline.data.shards import read_entry, read_manifest, write_shard
from pipeline.labels.teaching import Teaching, refined_log_probs
from pipeline.params import PropagationParams

Floats = NDArray[np.float32]


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
