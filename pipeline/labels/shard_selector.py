"""What a selection does with one shard of predictions; a pass over all of them is one method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data.distributions import (
    Distributions,
    as_stored,
    distribution_fields,
    read_distributions,
)
from pipeline.data.predictions import (
    OUTLINE,
    PLACE,
    STRANGER,
    pseudo_labels_table,
    strangers_of,
)
from pipeline.data.shards import Manifest, ShardEntry, check_schema, read_entry
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import write_derived
from pipeline.errors import DataError
from pipeline.labels.align import aligned
from pipeline.labels.select import (
    Candidates,
    Cuts,
    Reason,
    id_hashes,
    select,
    stored_confidences,
)
from pipeline.labels.teaching import sharpened
from pipeline.params import SelectParams

REASONS = pa.array([reason.text for reason in Reason], pa.string())


@dataclass(frozen=True)
class Rows:
    """The rows of a shard: labels and confidences as they are selected by, and the columns read.

    strangers: None where nobody looked for them; log_probs: None where they were not read.
    """

    table: Any
    labels: NDArray[np.int32]
    confidences: NDArray[np.float32]
    strangers: NDArray[np.bool_] | None
    dropped: NDArray[np.bool_]
    log_probs: Distributions | None

    @property
    def candidates(self) -> Candidates:
        """What decides which of them are selected."""
        hashes = id_hashes(self.table.column("id").to_pylist())
        return Candidates(self.labels, self.confidences, hashes, self.dropped)


@dataclass(frozen=True)
class ShardSelector:
    """Works on one shard of predictions a call; travels to other processes as it is.

    manifest: of `predictions`; shift: (K,), what alignment adds to log-probabilities, None for
    none. Raises DataError for a shard that is not as the manifest says, or no numbers.
    """

    predictions: Path
    manifest: Manifest
    num_classes: int
    params: SelectParams
    shift: NDArray[np.float64] | None = None

    def sample(self, number: int, every: int) -> NDArray[np.float32]:
        """Log-probabilities (m, K) of the rows whose place is a multiple of `every`."""
        rows = self._read(number, log_probs=True)
        assert rows.log_probs is not None
        some = slice(-self._first[number] % every, None, every)
        return rows.log_probs.dense()[some][~rows.dropped[some]]

    def candidates(
        self, number: int, truth: Mapping[str, int]
    ) -> tuple[Candidates, NDArray[np.int32], int | None]:
        """What decides which rows are selected, their true classes, -1 where `truth` has none, and
        the number of strangers."""
        rows = self._read(number)
        truths = np.full(len(rows.labels), -1, np.int32)
        if truth:
            truths[:] = [truth.get(name, -1) for name in rows.table.column("id").to_pylist()]
        strangers = None if rows.strangers is None else int(rows.strangers.sum())
        return rows.candidates, truths, strangers

    def write(self, number: int, cuts: Cuts, out: Path | StoredFolder) -> ShardEntry:
        """Write the shard of pseudo-labels."""
        rows = self._read(number, log_probs=True)
        assert rows.log_probs is not None
        selection = select(rows.candidates, cuts, int(self._first[number]))
        table = pseudo_labels_table(
            rows.table,
            rows.labels,
            rows.confidences,
            selection.repeats,
            REASONS.take(pa.array(selection.reasons)),
            sharpened(rows.log_probs, self.params.temperature),
        )
        name = self.manifest.shards[number].file
        return write_derived(out, name, table)

    @cached_property
    def _first(self) -> NDArray[np.int64]:
        """The place of the first row of each shard, counted over all."""
        return np.cumsum([0, *(entry.rows for entry in self.manifest.shards)])

    def _read(self, number: int, *, log_probs: bool = False) -> Rows:
        needed = log_probs or self.shift is not None
        fields = distribution_fields(self.num_classes, "log_probs") if needed else []
        schema = pa.schema([*PLACE, *OUTLINE, *fields])
        entry = self.manifest.shards[number]
        table = read_entry(self.predictions, entry, schema.names, [STRANGER.name])
        check_schema(table, schema, self.predictions)
        labels, logs = (table.column(item.name).to_numpy() for item in OUTLINE)
        if len(labels) and not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise DataError(f"{self.predictions}: a label that is none; run its stage again")
        if (wrong := np.flatnonzero(~(logs > -np.inf))).size:
            raise DataError(
                f"{self.predictions}: {len(wrong)} predictions are not numbers, the first of image "
                f"{table.column('id')[int(wrong[0])].as_py()!r}; the teacher is unusable, train it "
                "anew"
            )
        stored = None
        if fields:
            stored = read_distributions(table, self.num_classes, "log_probs", self.predictions)
        if stored is not None and self.shift is not None:
            stored = as_stored(aligned(stored.dense(), self.shift))
            labels, logs = stored.labels, stored.values.max(axis=1)
        strangers = strangers_of(table, self.predictions)
        dropped = np.zeros(len(labels), np.bool_)
        if strangers is not None and self.params.strangers == "drop":
            dropped = strangers
        return Rows(table, labels, stored_confidences(logs), strangers, dropped, stored)
