"""What goes into no shard: the hidden answers of unlabelled images; what is left out, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.data.preparation.assign import REASONS, Side
from pipeline.data.preparation.corrections import Corrected
from pipeline.data.preparation.duplicates import Ints
from pipeline.data.preparation.slices import Slices
from pipeline.data.preparation.targets import Targets
from pipeline.data.rows import SIZE
from pipeline.data.shards import ROWS_PER_GROUP, parquet_writer
from pipeline.files import written_whole

QUARANTINE_SCHEMA = pa.schema([("id", pa.string()), ("reason", pa.string())])
MANY_COPIES = 0.01  # of the images; more are worth a warning
NAMES_SHOWN = 5


@dataclass(frozen=True)
class Leftover:
    """Of prepared images those that are in no shard, and the answers that are not.

    copy_of: (N,), see Assignment.
    """

    corrected: Corrected
    copy_of: Ints
    slices: Slices

    def warnings(self) -> Iterator[str]:
        """Lines of many copies, and of those that have another label than what they copy."""
        dropped = self.corrected.sides == Side.DUPLICATE
        rows = np.flatnonzero(dropped)
        others = np.flatnonzero((self.copy_of >= 0) & ~dropped)
        total = len(self.copy_of)
        if len(rows) > MANY_COPIES * total:
            yield (
                f"{len(rows)} of {total} images are left out as copies of held-out ones "
                f"({self._shown(rows)}); data.near_duplicate_distance: 0 keeps all but exact copies"
            )
        if len(others):
            yield (
                f"{len(others)} images look the same as a held-out one of another class "
                f"({self._shown(others)}); which is right?"
            )

    def _shown(self, rows: Ints) -> str:
        some = rows[:NAMES_SHOWN]
        names = self.slices.values(np.unique(np.concatenate([some, self.copy_of[some]])), "id")
        pairs = [f"{names[row]!r} of {names[int(self.copy_of[row])]!r}" for row in some.tolist()]
        return ", ".join(pairs) + (", …" if len(rows) > NAMES_SHOWN else "")

    def write_truth(self, path: Path, task: Targets) -> None:
        """Write the answers of unlabelled images, (id, target), which the budget hides."""
        name = task.target.name
        known = self.corrected.records.keys >= 0
        rows = np.flatnonzero((self.corrected.sides == Side.UNLABELED) & known)
        tables = (
            table
            for part in self.slices.parts(rows)
            for table in self.slices.read(part, ["id", name])
        )
        hidden = (row for table in tables for row in table.to_pylist())
        write_rows(path, hidden, pa.schema([("id", pa.string()), task.target]))

    def write_quarantine(
        self, path: Path, task: Targets, unused: Iterable[tuple[str, str]]
    ) -> None:
        """Write the (id, reason) of unusable images, of `unused` files, and of images left out, of
        these with their own size where the shards have it."""
        size = SIZE if task.keeps_whole else ()
        schema = pa.schema([*QUARANTINE_SCHEMA, *size])
        write_rows(path, self._left_out(unused, ["id", *(item.name for item in size)]), schema)

    def _left_out(
        self, unused: Iterable[tuple[str, str]], columns: list[str]
    ) -> Iterator[dict[str, Any]]:
        for name, reason in chain(self.corrected.records.bad, unused):
            yield {"id": name, "reason": reason}
        sides = self.corrected.sides
        dropped = sides == Side.DUPLICATE
        copied = self.slices.values(np.unique(self.copy_of[dropped]), "id")
        rows = np.flatnonzero(dropped | np.isin(sides, list(REASONS)))
        for part in self.slices.parts(rows):
            places = (part[1] + self.slices.starts[part[0]]).tolist()
            images = (
                image for table in self.slices.read(part, columns) for image in table.to_pylist()
            )
            for row, image in zip(places, images, strict=True):
                side = Side(int(sides[row]))
                copy = int(self.copy_of[row])
                reason = REASONS[side] if side in REASONS else f"a copy of {copied[copy]!r}"
                yield image | {"reason": reason}


def write_rows(path: Path, rows: Iterable[dict[str, Any]], schema: Any) -> None:
    """Write rows to one file as `write_shard` does, few of them in memory."""
    left = iter(rows)
    with written_whole(path) as partial, parquet_writer(partial, schema) as writer:
        group = list(islice(left, ROWS_PER_GROUP))
        while True:
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            if not (group := list(islice(left, ROWS_PER_GROUP))):
                break
