"""What a selection does with one shard of predictions; a pass over all of them is one method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from pipeline.labels.audit import Right, Strangers
from pipeline.labels.levels import NO_LEVEL, count_levels, level_confidences, levels_of
from pipeline.labels.select import Cuts, Reason, select, sharpened, tied_rows
from pipeline.labels.ties import (
    Hashes,
    InWindow,
    LastTaken,
    Numbers,
    Window,
    in_window,
    tie_breakers,
)

REASONS = pa.array([reason.text for reason in Reason], pa.string())


@dataclass(frozen=True)
class Outline:
    """What a choice needs of a shard's predictions, (n,) each, and the columns that were read.

    strangers: None where nobody looked for them; dropped: those that must count in nothing.
    """

    labels: NDArray[np.int32]
    levels: NDArray[np.uint16]
    log_probs: Distributions | None
    table: Any
    strangers: NDArray[np.bool_] | None
    dropped: NDArray[np.bool_]

    def tied(self, cuts: Cuts) -> Numbers:
        """The rows at a level of which some images are taken and some are not."""
        rows = tied_rows(self.labels, self.levels, cuts)
        return rows[~self.dropped[rows]]


@dataclass(frozen=True)
class ShardSelector:
    """Selects among the predictions of one shard a call; travels to other processes as it is.

    manifest: of `predictions`; drop_strangers: whether strangers count in nothing; shift: (K,),
    what alignment adds to log-probabilities, None for none. Raises DataError for a shard that is
    not as the manifest says, or no numbers.
    """

    predictions: Path
    manifest: Manifest
    num_classes: int
    drop_strangers: bool = False
    shift: NDArray[np.float64] | None = None

    def tally(self, number: int) -> tuple[NDArray[np.uint32], Numbers]:
        """Which class and level come how often, as count_levels."""
        seen = self._outline(number)
        return count_levels(seen.labels[~seen.dropped], seen.levels[~seen.dropped])

    def ties(self, number: int, cuts: Cuts, window: Window) -> InWindow:
        """What there is of tied images around the last that is taken."""
        seen = self._outline(number, PLACE[:1])  # one reading: most shards have a tie
        rows = seen.tied(cuts)
        hashes = _hashes(seen.table, rows)
        return in_window(seen.labels[rows], hashes, self._first[number] + rows, window)

    def write(
        self,
        number: int,
        cuts: Cuts,
        last: LastTaken,
        out: Path | StoredFolder,
        temperature: float,
        truth: Mapping[str, int],
    ) -> tuple[ShardEntry, Right, Strangers]:
        """Write the shard of pseudo-labels; returns what the manifest and the audit need of it."""
        seen = self._outline(number, PLACE, log_probs=True)
        assert seen.log_probs is not None
        taken = np.zeros(len(seen.labels), np.bool_)
        rows = seen.tied(cuts)
        places = self._first[number] + rows
        taken[rows] = last.takes(seen.labels[rows], _hashes(seen.table, rows), places)
        selection = select(seen.labels, seen.levels, taken, cuts, seen.dropped)
        table = pseudo_labels_table(
            seen.table,
            seen.labels,
            level_confidences()[seen.levels],
            selection.repeats,
            REASONS.take(pa.array(selection.reasons)),
            sharpened(seen.log_probs, temperature),
        )
        truths = np.full(len(seen.labels), -1, np.int32)
        if truth:
            truths[:] = [truth.get(name, -1) for name in seen.table.column("id").to_pylist()]
        right = Right.counted(seen.labels, truths, selection.repeats > 0, self.num_classes)
        name = self.manifest.shards[number].file
        found = None if seen.strangers is None else int(seen.strangers.sum())
        strangers = Strangers(found, int(seen.dropped.sum()))
        return write_derived(out, name, table), right, strangers

    def drawn(self, number: int, every: int) -> NDArray[np.float32]:
        """Log-probabilities (m, K) of the rows whose place is a multiple of `every`."""
        seen = self._outline(number, log_probs=True)
        assert seen.log_probs is not None
        rows = slice(-self._first[number] % every, None, every)
        return seen.log_probs.dense()[rows][~seen.dropped[rows]]

    def _outline(
        self, number: int, also: Sequence[Any] = (), *, log_probs: bool = False
    ) -> Outline:
        """The outline of a shard; also: further columns to read, fields of a schema."""
        needed = log_probs or self.shift is not None
        fields = distribution_fields(self.num_classes, "log_probs") if needed else []
        table = self._read(number, [*also, *OUTLINE, *fields])
        labels = table.column("label").to_numpy()
        if len(labels) and not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise DataError(f"{self.predictions}: a label that is none; run its stage again")
        levels = levels_of(table.column("log_confidence").to_numpy())
        if (wrong := np.flatnonzero(levels == NO_LEVEL)).size:
            names = self._read(number, [PLACE[0]]).column("id")
            raise DataError(
                f"{self.predictions}: {len(wrong)} predictions are not numbers, the first of image "
                f"{names[int(wrong[0])].as_py()!r}; the teacher is unusable, train it anew"
            )
        stored = None
        if fields:
            stored = read_distributions(table, self.num_classes, "log_probs", self.predictions)
        if stored is not None and self.shift is not None:
            stored = as_stored(aligned(stored.dense(), self.shift))
            labels = stored.labels
            levels = levels_of(stored.values.max(axis=1).astype(np.float16))
        strangers = strangers_of(table, self.predictions)
        none = np.zeros(len(labels), np.bool_)
        dropped = strangers if self.drop_strangers and strangers is not None else none
        return Outline(labels, levels, stored, table, strangers, dropped)

    def _read(self, number: int, fields: list[Any]) -> Any:
        schema = pa.schema(fields)
        entry = self.manifest.shards[number]
        table = read_entry(self.predictions, entry, schema.names, [STRANGER.name])
        return check_schema(table, schema, self.predictions)

    @cached_property
    def _first(self) -> Numbers:
        """The place of the first row of each shard, counted over all."""
        return np.cumsum([0, *(entry.rows for entry in self.manifest.shards)])


def _hashes(table: Any, rows: Numbers) -> Hashes:
    return tie_breakers(table.column("id").take(pa.array(rows)).to_pylist())
