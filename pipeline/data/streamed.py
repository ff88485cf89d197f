"""Images that do not fit into memory: read from their shards, a window ahead of their use.

What a batch holds is a function of (seed, step); see stream_order. While batches are cut from one
window, a thread reads the next; images stay encoded until the batch they belong to is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.data.blocks import Blocks, Integers, PseudoLabelReader, ShardFile, Targets, blocks_of
from pipeline.data.shards import IMAGE_SCHEMA, iter_shards, read_manifest
from pipeline.data.stream_order import StreamOrder, window_size_for
from pipeline.data.tensors import DecodedImages, stored_shape

READERS = 8
IMAGE = IMAGE_SCHEMA.field("image")


class StreamedBatch(NamedTuple):
    """A worker's part of a batch: images (m, C, S, S) uint8, the row of each over the folder, (m,)
    int64, and what it is to learn where the stream brings it along, (m, …) as the task has it."""

    images: Tensor
    rows: Tensor
    targets: Tensor | None


@dataclass(frozen=True)
class WindowPart:
    """A worker's part of a window: its items, sorted, and of each the row, bytes and, as a row of a
    table that is not yet decoded, target."""

    items: Integers
    rows: Integers
    files: list[bytes]
    targets: Any


class TargetReader(Protocol):
    """The true targets of images: the columns that hold them, and what those say."""

    schema: Any

    def read(self, table: Any) -> Targets:
        """(n, …) of a table of these columns."""


class ShardStream:
    """The images of a prepared folder, or as often as pseudo-labels of them count.

    targets, pseudo_labels: what it brings along, if anything. window: most images held at once; two
    windows are, while one is followed by the next. shape: of
    an image, (C, S, S).
    """

    def __init__(
        self,
        folder: Path,
        *,
        window: int,
        threads: int = 1,
        targets: TargetReader | None = None,
        pseudo_labels: PseudoLabelReader | None = None,
    ) -> None:
        self.folder, self._window, self._threads = folder, window, threads
        self._targets, self._pseudo_labels = targets, pseudo_labels
        self._manifest = read_manifest(folder)
        self.shape = stored_shape(folder, self._manifest)
        self._order: StreamOrder | None = None
        self._windows: dict[tuple[int, int], Future[WindowPart]] = {}
        self._prefetch = ThreadPoolExecutor(1, "stream")
        self._readers = ThreadPoolExecutor(READERS, "read")
        self._decoders = ThreadPoolExecutor(threads, "decode")

    def __len__(self) -> int:
        """The number of images, each as often as it counts."""
        return int(self._counts.sum())

    def every_target(self) -> Iterator[Tensor]:
        """The true targets of all images, a shard at a time."""
        assert self._targets is not None
        for table in iter_shards(self.folder, self._targets.schema.names):
            yield torch.from_numpy(self._targets.read(table))

    @cached_property
    def every_image(self) -> ShardStream:
        """The same images once each, whether pseudo-labels of them count or not."""
        return ShardStream(self.folder, window=self._window, threads=self._threads)

    def batch(self, step: int, batch_size: int, seed: int, part: slice) -> StreamedBatch:
        """The part [rank::world_size] of global batch `step` of a stream of this seed.

        Raises DataError where a shard can't be read or an image can't be decoded.
        """
        if self._order is None or self._order.seed != seed:
            self._order = StreamOrder(self._counts, window_size_for(self._window), seed)
            self._windows.clear()
        rank, world_size = part.start or 0, part.step or 1
        files: list[bytes] = []
        rows, tables = [], []
        for piece in self._order.batch(step, batch_size):
            window = self._window_part(self._order, piece.epoch, piece.window, rank, world_size)
            own = piece.places[(rank - piece.batch[0]) % world_size :: world_size]
            items = self._order.items(piece.epoch, piece.window)[own]
            places = np.searchsorted(window.items, items)
            files += [window.files[place] for place in places]
            rows.append(window.rows[places])
            if window.targets is not None:
                tables.append(window.targets.take(pa.array(places)))
        pixels = np.empty((len(files), *self.shape), np.uint8)
        return StreamedBatch(
            DecodedImages(files, pixels, self.folder, self._decoders, verify=True)[:],
            torch.from_numpy(np.concatenate(rows)),
            self._read_targets(pa.concat_tables(tables)) if tables else None,
        )

    def _read_targets(self, table: Any) -> Tensor:
        reader = self._pseudo_labels or self._targets
        assert reader is not None
        return torch.from_numpy(reader.read(table))

    @cached_property
    def _blocks(self) -> Blocks:
        return blocks_of(self.folder, self._manifest)

    @cached_property
    def _counts(self) -> Integers:
        """The items of each block."""
        if self._pseudo_labels is None:
            return self._blocks.rows
        return self._pseudo_labels.counts(self._manifest, self._blocks)

    def _window_part(
        self, order: StreamOrder, epoch: int, window: int, rank: int, world_size: int
    ) -> WindowPart:
        """This worker's part of a window; the reading of the next one begins."""
        wanted = [(epoch, window), order.after(epoch, window)]
        for key in self._windows.keys() - set(wanted):
            self._windows.pop(key).cancel()
        for key in wanted:
            if key not in self._windows:
                items = np.sort(order.share(*key, rank, world_size))
                self._windows[key] = self._prefetch.submit(self._read, order, items)
        return self._windows[epoch, window].result()

    def _read(self, order: StreamOrder, items: Integers) -> WindowPart:
        """Read what some items, sorted, are: shard by shard, each by a thread."""
        block = np.searchsorted(order.first, items, side="right") - 1
        edges = np.flatnonzero(np.diff(self._blocks.shard[block])) + 1
        shares = zip(
            np.split(items - order.first[block], edges), np.split(block, edges), strict=True
        )
        if not len(items):
            return WindowPart(items, items, [], None)
        parts = list(self._readers.map(lambda share: self._read_shard(*share), shares))
        targets = [part for _, _, part in parts if part is not None]
        return WindowPart(
            items,
            np.concatenate([rows for rows, _, _ in parts]),
            [file for _, files, _ in parts for file in files],
            pa.concat_tables(targets) if targets else None,
        )

    def _read_shard(self, inside: Integers, block: Integers) -> tuple[Integers, list[bytes], Any]:
        """Row, bytes and target of items of one shard: item `inside` of each's `block`, (n,)."""
        blocks, number = self._blocks, int(self._blocks.shard[block[0]])
        rows, files, targets = [], [], []
        own = [] if self._targets is None else list(self._targets.schema)
        schema = pa.schema([IMAGE, *own])
        with ShardFile(self.folder, self._manifest.shards[number]) as shard:
            for one in np.unique(block).tolist():
                places = inside[block == one]
                if self._pseudo_labels is not None:
                    first, count = int(blocks.first[one]), int(blocks.rows[one])
                    repeats, table = self._pseudo_labels.of_block(number, first, count)
                    places = np.repeat(np.arange(count), repeats)[places]
                    targets.append(table.take(pa.array(places)))
                table = shard.read([int(blocks.group[one])], schema).take(pa.array(places))
                files += table.column("image").to_pylist()
                if self._targets is not None:
                    targets.append(table.select(self._targets.schema.names))
                rows.append(blocks.start[one] + places)
        return np.concatenate(rows), files, pa.concat_tables(targets) if targets else None
