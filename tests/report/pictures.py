"""Galleries of real prepared images, of predictions that a test drew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.shards import iter_shards
from pipeline.labels.pseudo_label import select_pseudo_labels
from pipeline.labels.shard_selector import Truth
from pipeline.params import SelectParams
from pipeline.report.galleries import Gallery, unlabeled_galleries
from pipeline.tasks.classification import TASK
from tests.labels.folders import write_predictions
from tests.tiny import CLASSES, prepared_stripes

Floats = NDArray[np.float32]
SHARD = 16


@dataclass(frozen=True)
class Pictures:
    """Prepared images, two teachers' probabilities (N, 3) of the unlabelled ones, a selection."""

    prepared: Path
    ids: list[str]
    teachers: tuple[Floats, Floats]
    predictions: list[Path]
    pseudo_labels: Path
    strangers: NDArray[np.bool_]

    @property
    def galleries(self) -> list[Gallery]:
        """Those of the unlabelled images."""
        unlabeled = self.prepared / "unlabeled"
        return unlabeled_galleries(unlabeled, self.predictions, self.pseudo_labels, CLASSES)


def ids_of(folder: Path) -> list[str]:
    """The ids of a folder of shards, in order."""
    return [name for table in iter_shards(folder) for name in table["id"].to_pylist()]


def make_pictures(root: Path) -> Pictures:
    """Stripes, and two teachers that mostly agree; the last selection leaves some out."""
    prepared = prepared_stripes(root / "prepared")
    ids = ids_of(prepared / "unlabeled")
    draw = np.random.default_rng(4)
    logits = 3 * draw.normal(size=(len(ids), 3))
    strangers = np.random.default_rng(5).random(len(ids)) < 0.2
    teachers = []
    for generation in ("1", "2"):
        powers = np.exp(logits + draw.normal(size=logits.shape))
        values = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        out = root / "predictions" / generation
        write_predictions(out, values, rows_per_shard=SHARD, ids=ids, strangers=strangers)
        teachers.append(values)
    predictions = [root / "predictions" / key for key in ("1", "2")]
    out = root / "pseudo_labels"
    select_pseudo_labels(
        predictions[-1],
        out,
        SelectParams(confidence_threshold=0.7, fraction_per_class=None),
        classes=CLASSES,
        labeled=prepared / "labeled",
        truth=Truth.of({}, 8),
        task=TASK,
    )
    return Pictures(prepared, ids, (teachers[0], teachers[1]), predictions, out, strangers)
