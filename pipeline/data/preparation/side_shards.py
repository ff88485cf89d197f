"""The second pass: write the shards of the sides, each from the rows of slices that go there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.data.images import decode_stored
from pipeline.data.preparation.duplicates import Ints
from pipeline.data.preparation.ingest import in_groups, stored_schema
from pipeline.data.preparation.moments import Moments
from pipeline.data.preparation.slices import IMAGES_PER_GROUP, Part, Slices
from pipeline.data.preparation.targets import Targets
from pipeline.data.shards import ShardEntry, parquet_writer, shard_name
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import noted_shard, write_noted
from pipeline.mapping import check_ended


class SideShard(NamedTuple):
    """A shard of a folder, by its number, and the rows that it holds.

    answers: what a person said, as it is stored, by the row's place in the shard; known: whether
    answers are stored at all; counted: whether its pixels count for the moments.
    """

    folder: str
    number: int
    parts: list[Part]
    answers: Mapping[int, Any]
    known: bool
    counted: bool


class WrittenShard(NamedTuple):
    """What became of it."""

    folder: str
    entry: ShardEntry
    moments: Moments


@dataclass(frozen=True)
class SideShards:
    """Writes shards to their place in storage, or to a folder of that name in `scratch`; travels to
    other processes.

    What is known of a finished one is noted, beside it in storage, else in `scratch`: it is not
    written again.
    """

    slices: Slices
    places: Mapping[str, Path | StoredFolder]
    notes: Mapping[str, Path | StoredFolder]
    task: Targets
    channels: int

    def __call__(self, shard: SideShard) -> WrittenShard:
        """Write one, unless it is there."""
        name = shard_name(shard.number)
        place, notes = self.places[shard.folder], self.notes[shard.folder]
        with suppress(KeyError, TypeError, ValueError):
            if found := noted_shard(place, notes, name):
                entry, note = found
                return WrittenShard(shard.folder, entry, Moments.of(note["moments"]))
        moments = Moments.none(self.channels)

        def write(path: Path) -> tuple[int, dict[str, Any]]:
            rows = 0
            with parquet_writer(path, stored_schema(self.task)) as writer:
                for table in in_groups(self._rows(shard), IMAGES_PER_GROUP):
                    check_ended()
                    writer.write_table(table)
                    rows += len(table)
                    if shard.counted:
                        self._count(table, moments)
            return rows, {"moments": moments.value}

        return WrittenShard(shard.folder, write_noted(place, notes, name, write), moments)

    def _rows(self, shard: SideShard) -> Iterator[Any]:
        """The rows as tables, with the answers that they are to have."""
        schema, done = stored_schema(self.task), 0
        place = schema.names.index(self.task.target.name)
        for part in shard.parts:
            for table in self.slices.read(part, schema.names):
                if not shard.known:
                    column = pa.nulls(len(table), self.task.target.type)
                    table = table.set_column(place, self.task.target, column)
                elif given := shard.answers.keys() & range(done, done + len(table)):
                    values = table.column(place).to_pylist()
                    for row in given:
                        values[row - done] = shard.answers[row]
                    column = pa.array(values, self.task.target.type)
                    table = table.set_column(place, self.task.target, column)
                done += len(table)
                yield table.cast(schema)

    def _count(self, table: Any, moments: Moments) -> None:
        images = table.column("image").to_pylist()
        sizes: list[Any] = [None] * len(images)
        if self.task.keeps_whole:
            columns = (table.column(name).to_pylist() for name in ("width", "height"))
            sizes = list(zip(*columns, strict=True))
        for image, size in zip(images, sizes, strict=True):
            moments.add(decode_stored(image), size)


def side_shards(
    folder: str,
    rows: Ints,
    slices: Slices,
    rows_per_shard: int,
    labels: Mapping[int, Any],
    *,
    known: bool,
    counted: bool,
) -> Iterator[SideShard]:
    """The shards of a folder of these rows, ascending; labels: what a person gave, by row."""
    for number, start in enumerate(range(0, len(rows), rows_per_shard)):
        some = rows[start : start + rows_per_shard]
        given = labels.keys() & some.tolist() if labels else ()
        answers = {int(np.searchsorted(some, row)): labels[row] for row in given}
        yield SideShard(folder, number, [*slices.parts(some)], answers, known, counted)
