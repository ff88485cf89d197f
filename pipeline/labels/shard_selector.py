"""What a selection does with one shard of predictions; a pass over all of them is one method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data.distributions import stored_confidences
from pipeline.data.predictions import PLACE, STRANGER, pseudo_labels_table, strangers_of
from pipeline.data.shards import Manifest, ShardEntry, check_schema, read_entry, read_shard
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import write_derived
from pipeline.errors import DataError
from pipeline.labels.align import aligned
from pipeline.labels.select import (
    Candidates,
    Cuts,
    Hashes,
    Reason,
    id_hashes,
    select,
    unit_hashes,
)
from pipeline.params import SelectParams
from pipeline.tasks import Task
from pipeline.tasks.task import Choice, Units

REASONS = pa.array([reason.text for reason in Reason], pa.string())
MOST_UNITS = 1 << 24  # that a selection holds, some 20 bytes each, of images that are many
MOST_OF_IMAGE = 256
IDS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Truth:
    """What N images really show, at this side.

    hashes: (N,) those of their ids, ascending; values: an Arrow array as the prepared column of the
    task has it.
    """

    hashes: Hashes
    values: Any
    side: int

    @classmethod
    def of(cls, values: Mapping[str, Any], side: int) -> Truth:
        """That of few images, by id."""
        return cls.of_table(pa.table([list(values), list(values.values())], ["id", "value"]), side)

    @classmethod
    def of_table(cls, table: Any, side: int) -> Truth:
        """That of a table of ids and values."""
        batches = table.select([0]).to_batches(IDS_AT_ONCE)
        parts = [id_hashes(batch.column(0).to_pylist()) for batch in batches]
        hashes = np.concatenate([np.empty(0, np.uint64), *parts])
        order = np.argsort(hashes)
        return cls(hashes[order], table.column(1).combine_chunks().take(pa.array(order)), side)

    def column(self, hashes: Hashes) -> Any:
        """The values of images of these hashes, null of those that are not known."""
        places = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return self.values.take(pa.array(places, mask=self.hashes[places] != hashes))


def read_truth(path: Path, task: Task, side: int) -> Truth:
    """The truth of unlabelled images as prepare writes it; raises DataError."""
    return Truth.of_table(read_shard(path, ["id", task.target.name]), side)


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
    task: Task
    shift: NDArray[np.float64] | None = None

    def sample(self, number: int, every: int) -> NDArray[np.float32]:
        """Log-probabilities (m, K) of the rows whose place is a multiple of `every`."""
        table = self._read(number)
        self._units(table)
        log_probs = self.task.read_predictions(table, self.num_classes, self.predictions)
        some = slice(-self._first[number] % every, None, every)
        return np.asarray(log_probs[some][~self._dropped(table)[some]])

    def candidates(
        self, number: int, truth: Truth
    ) -> tuple[Candidates, NDArray[np.int32], int | None]:
        """What decides which units are selected, their true classes, -1 where `truth` has none, and
        the number of strangers."""
        table = self._read(number, units=True)
        units = self._units(table)
        strangers, hashes = strangers_of(table, self.predictions), _hashes(table)
        candidates = Candidates(
            units.labels,
            stored_confidences(units.log_confidences),
            unit_hashes(hashes[units.images], units.numbers),
            self._dropped(table)[units.images],
        )
        truths = self._truths(hashes, units, truth)
        return candidates, truths, None if strangers is None else int(strangers.sum())

    def write(self, number: int, cuts: Cuts, out: Path | StoredFolder) -> ShardEntry:
        """Write the shard of pseudo-labels."""
        table = self._read(number)
        hashes, dropped, first = _hashes(table), self._dropped(table), self._first[number]

        def choose(
            rows: NDArray[np.int64], labels: NDArray[np.int32], logs: NDArray[np.float16]
        ) -> Choice:
            ones = (-1, *[1] * (labels.ndim - 1))
            numbers = np.arange(prod(labels.shape[1:])).reshape(labels.shape[1:])
            candidates = Candidates(
                labels,
                stored_confidences(logs),
                unit_hashes(hashes[rows].reshape(ones), numbers),
                dropped[rows].reshape(ones),
            )
            return select(candidates, cuts, first + rows)

        source = self.predictions
        taught = self.task.teach(table, self.num_classes, source, choose, self.params)
        pseudo_labels = pseudo_labels_table(
            table,
            taught.labels,
            taught.confidences,
            taught.choice.repeats,
            REASONS.take(pa.array(taught.choice.reasons)),
            taught.columns,
        )
        return write_derived(out, self.manifest.shards[number].file, pseudo_labels)

    @cached_property
    def _first(self) -> NDArray[np.int64]:
        """The place of the first row of each shard, counted over all."""
        return np.cumsum([0, *(entry.rows for entry in self.manifest.shards)])

    def _read(self, number: int, *, units: bool = False) -> Any:
        """The table of a shard, its predictions aligned; units: only what units are read of."""
        units = units and self.shift is None
        own = self.task.prediction_schema(self.num_classes, units=units)
        schema = pa.schema([*PLACE, *own])
        entry = self.manifest.shards[number]
        table = read_entry(self.predictions, entry, schema.names, [STRANGER.name])
        check_schema(table, schema, self.predictions)
        if self.shift is None:
            return table
        log_probs = self.task.read_predictions(table, self.num_classes, self.predictions)
        columns = self.task.prediction_columns(aligned(log_probs, self.shift))
        others = {name: table[name] for name in table.schema.names if name not in columns}
        return pa.table(others | columns)

    def _units(self, table: Any) -> Units:
        """Its units, all of them with a confidence that is a number."""
        most = min(MOST_OF_IMAGE, max(1, MOST_UNITS // max(1, self.manifest.rows)))
        units = self.task.units(table, self.num_classes, self.predictions, most)
        if (wrong := np.flatnonzero(~(units.log_confidences > -np.inf))).size:
            first = table.column("id")[int(units.images[wrong[0]])].as_py()
            raise DataError(
                f"{self.predictions}: {len(wrong)} predictions are not numbers, the first of image "
                f"{first!r}; the teacher is unusable, train it anew"
            )
        return units

    def _dropped(self, table: Any) -> NDArray[np.bool_]:
        """Which images count in nothing."""
        strangers = strangers_of(table, self.predictions)
        if strangers is None or self.params.strangers != "drop":
            return np.zeros(table.num_rows, np.bool_)
        return strangers

    def _truths(self, hashes: Hashes, units: Units, truth: Truth) -> NDArray[np.int32]:
        if not len(truth.hashes):
            return np.full(len(units.labels), -1, np.int32)
        column = truth.column(hashes).cast(self.task.target.type)
        return self.task.unit_targets(units, self.task.load(column, truth.side))


def _hashes(table: Any) -> Hashes:
    return id_hashes(table.column("id").to_pylist())
