"""The pseudo-labels of images that are streamed: read a block at a time, beside the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.blocks import Blocks, Integers, open_entry, read_group
from pipeline.data.predictions import pseudo_label_schema, repeats_of, targets_of
from pipeline.data.shards import Manifest, check_schema, read_entry, read_manifest
from pipeline.errors import DataError


class PseudoLabelReader:
    """A folder of pseudo-labels, shard for shard those of a folder of images."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._manifest = folder, read_manifest(folder)
        self._schema = pseudo_label_schema(folder, self._manifest)
        self._of_shard = list(self._manifest.shards)

    def counts(self, images: Manifest, blocks: Blocks) -> Integers:
        """How many items the images of each block are, (B,); raises DataError."""
        rows = [entry.rows for entry in images.shards]
        if [entry.rows for entry in self._of_shard] != rows:
            raise DataError(f"{self._folder}: not of the prepared images; run select again")
        counts = np.zeros(len(blocks.rows), np.int64)
        of_block = np.split(np.arange(len(blocks.rows)), np.cumsum(np.bincount(blocks.shard))[:-1])
        names = ["shard", "row", "repeats"]
        for number, entry in enumerate(self._of_shard):
            table = read_entry(self._folder, entry, names)
            check_schema(table, self._schema.empty_table().select(names).schema, self._folder)
            shard, row = table.column("shard").to_numpy(), table.column("row").to_numpy()
            if (shard != number).any() or (row != np.arange(len(row))).any():
                raise DataError(f"{self._folder}: not of the prepared images; run select again")
            if len(row):
                repeats = repeats_of(self._folder, table).astype(np.int64)
                counts[of_block[number]] = np.add.reduceat(repeats, blocks.first[of_block[number]])
        return counts

    def of_block(
        self, number: int, first: int, count: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """How often each of `count` rows of shard `number` from `first` counts, and its target.

        (n,) and (n, K).
        """
        entry = self._of_shard[number]
        with open_entry(self._folder, entry) as file:
            size = file.metadata.row_group(0).num_rows
            groups = range(first // size, (first + count - 1) // size + 1)
            name = self._folder / entry.file
            tables = [read_group(file, group, self._schema, name) for group in groups]
        repeats = np.concatenate([repeats_of(self._folder, table) for table in tables])
        targets = np.concatenate([targets_of(self._folder, self._manifest, t) for t in tables])
        at = first - groups[0] * size
        return repeats[at : at + count], targets[at : at + count]
