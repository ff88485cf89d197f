"""Images that do not fit into memory: read from their shards, a window ahead of their use.

What a batch holds is a function of (seed, step); see stream_order. While batches are cut from one
window, a thread reads the next; images stay encoded until the batch they belong to is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.blocks import Blocks, PseudoLabelReader, blocks_of, open_entry, read_group
from pipeline.data.png import Bytes
from pipeline.data.shards import IMAGE_SCHEMA, read_manifest
from pipeline.data.stream_order import Integers, StreamOrder, window_size_for
from pipeline.data.tensors import IMAGES_PER_TASK, column_bytes, decode_into, finished, stored_shape

READERS = 8
IMAGES_ONLY = pa.schema([IMAGE_SCHEMA.field("image")])


class Drawn(NamedTuple):
    """A worker's part of a batch: images (m, C, S, S) uint8, the row of each over the folder, (m,)
    int64, and what it is to learn where the stream is of pseudo-labels, (m, K) float32."""

    images: Tensor
    rows: Tensor
    targets: Tensor | None


@dataclass(frozen=True)
class Held:
    """A worker's part of a window: its items, sorted, and of each the row, bytes and target."""

    items: Integers
    rows: Integers
    data: list[Bytes]
    targets: NDArray[np.float32] | None


class ShardStream:
    """The images of a prepared folder, or as often as pseudo-labels of them count.

    window: most images held at once; two windows are, while one is followed by the next. shape: of
    an image, (C, S, S).
    """

    def __init__(
        self,
        folder: Path,
        *,
        window: int,
        threads: int = 1,
        chosen: PseudoLabelReader | None = None,
    ) -> None:
        self.folder, self._window, self._threads, self._chosen = folder, window, threads, chosen
        self._manifest = read_manifest(folder)
        self.shape = stored_shape(folder, self._manifest)
        self._order: StreamOrder | None = None
        self._held: dict[tuple[int, int], Future[Held]] = {}
        self._ahead = ThreadPoolExecutor(1, "stream")
        self._readers = ThreadPoolExecutor(READERS, "read")
        self._decoders = ThreadPoolExecutor(threads, "decode")

    def __len__(self) -> int:
        """The number of images, each as often as it counts."""
        return int(self._counts.sum())

    @cached_property
    def every_image(self) -> ShardStream:
        """The same images once each, whether pseudo-labels of them count or not."""
        return ShardStream(self.folder, window=self._window, threads=self._threads)

    def draw(self, step: int, batch_size: int, seed: int, part: slice) -> Drawn:
        """The part [rank::world_size] of global batch `step` of a stream of this seed.

        Raises DataError where a shard can't be read or an image can't be decoded.
        """
        if self._order is None or self._order.seed != seed:
            self._order = StreamOrder(self._counts, window_size_for(self._window), seed)
            self._held.clear()
        rank, world_size = part.start or 0, part.step or 1
        data: list[Bytes] = []
        rows, targets = [], []
        for piece in self._order.batch(step, batch_size):
            held = self._part(piece.epoch, piece.window, rank, world_size)
            own = piece.places[(rank - piece.batch[0]) % world_size :: world_size]
            items = self._order.items(piece.epoch, piece.window)[own]
            found = np.searchsorted(held.items, items)
            data += [held.data[place] for place in found]
            rows.append(held.rows[found])
            if held.targets is not None:
                targets.append(held.targets[found])
        return Drawn(
            self._decoded(data),
            torch.from_numpy(np.concatenate(rows)),
            torch.from_numpy(np.concatenate(targets)) if targets else None,
        )

    @cached_property
    def _blocks(self) -> Blocks:
        return blocks_of(self.folder, self._manifest)

    @cached_property
    def _counts(self) -> Integers:
        """The items of each block."""
        if self._chosen is None:
            return self._blocks.rows
        return self._chosen.counts(self._manifest, self._blocks)

    def _part(self, epoch: int, window: int, rank: int, world_size: int) -> Held:
        """This worker's part of a window; the reading of the next one begins."""
        assert self._order is not None
        wanted = [(epoch, window), self._order.after(epoch, window)]
        for key in [key for key in self._held if key not in wanted]:
            self._held.pop(key).cancel()
        for key in wanted:
            if key not in self._held:
                items = np.sort(self._order.share(*key, rank, world_size))
                self._held[key] = self._ahead.submit(self._read, self._order, items)
        return self._held[epoch, window].result()

    def _read(self, order: StreamOrder, items: Integers) -> Held:
        """Read what some items, sorted, are."""
        block = np.searchsorted(order.first, items, side="right") - 1
        inside = items - order.first[block]
        shards = self._blocks.shard[block]
        runs = np.split(np.arange(len(items)), np.flatnonzero(np.diff(shards)) + 1)
        runs = [run for run in runs if len(run)]
        parts = list(
            self._readers.map(lambda run: self._of_shard(items[run], inside[run], block[run]), runs)
        )
        targets = [part.targets for part in parts if part.targets is not None]
        return Held(
            items,
            np.concatenate([part.rows for part in parts] or [items]),
            [item for part in parts for item in part.data],
            np.concatenate(targets) if targets else None,
        )

    def _of_shard(self, items: Integers, inside: Integers, block: Integers) -> Held:
        """The same of items that lie in one shard; inside, block: the place of each, (n,)."""
        blocks, number = self._blocks, int(self._blocks.shard[block[0]])
        entry = self._manifest.shards[number]
        rows, data, targets = [], [], []
        with open_entry(self.folder, entry) as file:
            for one in np.unique(block).tolist():
                here = inside[block == one]
                first, count = int(blocks.first[one]), int(blocks.rows[one])
                if self._chosen is not None:
                    repeats, target = self._chosen.of_block(number, first, count)
                    places = np.repeat(np.arange(count), repeats)[here]
                    targets.append(target[places])
                else:
                    places = here
                name = self.folder / entry.file
                table = read_group(file, int(blocks.group[one]), IMAGES_ONLY, name)
                images = column_bytes(table)
                data += [images[place] for place in places.tolist()]
                rows.append(blocks.start[one] + places)
        return Held(items, np.concatenate(rows), data, np.concatenate(targets) if targets else None)

    def _decoded(self, data: Sequence[Bytes]) -> Tensor:
        images = torch.empty((len(data), *self.shape), dtype=torch.uint8)
        tasks = [
            self._decoders.submit(decode_into, data[part], images[part])
            for part in _parts(len(data), self._threads)
        ]
        finished(tasks, self.folder)
        return images


class SlicedImages:
    """The images of a prepared folder in order, looked at a slice at a time, read as they are."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._manifest = folder, read_manifest(folder)
        self._shape = stored_shape(folder, self._manifest)
        self._blocks = blocks_of(folder, self._manifest)

    def __len__(self) -> int:
        return self._manifest.rows

    def __getitem__(self, rows: slice, /) -> Tensor:
        start, stop, _ = rows.indices(len(self))
        images = torch.empty((max(0, stop - start), *self._shape), dtype=torch.uint8)
        blocks = self._blocks
        touched = (blocks.start < stop) & (blocks.start + blocks.rows > start)
        for one in np.flatnonzero(touched).tolist():
            entry = self._manifest.shards[int(blocks.shard[one])]
            first, end = int(blocks.start[one]), int(blocks.start[one] + blocks.rows[one])
            with open_entry(self._folder, entry) as file:
                name = self._folder / entry.file
                table = read_group(file, int(blocks.group[one]), IMAGES_ONLY, name)
            data = column_bytes(table)[max(start, first) - first : min(stop, end) - first]
            at = max(start, first) - start
            decode_into(data, images[at : at + len(data)])
        return images


def _parts(count: int, threads: int) -> Iterator[slice]:
    """`count` images cut into tasks for the threads."""
    size = max(1, min(IMAGES_PER_TASK, -(-count // threads)))
    for start in range(0, count, size):
        yield slice(start, start + size)
