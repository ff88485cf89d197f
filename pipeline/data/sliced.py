"""The images of a prepared folder in order, of which two shards at most are in memory decoded."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from pipeline.data.shards import check_shard, read_manifest
from pipeline.data.tensors import DecodedAhead, shard_images, stored_shape
from pipeline.errors import DataError


class ShardSlices:
    """The images of a prepared folder, (n, C, S, S) uint8 a slice.

    `threads` threads decode the shard that a slice is of and the next one; where there are no more
    than two, they stay. The SHA-256 of a shard is checked. To be used in a `with` block. Raises
    DataError for a shard or an image that is not as it should be, when it is used.
    """

    def __init__(self, folder: Path, *, threads: int) -> None:
        self._folder, self._threads, self._manifest = folder, threads, read_manifest(folder)
        self._shape = stored_shape(folder, self._manifest)
        rows = [entry.rows for entry in self._manifest.shards]
        self._edges = np.cumsum([0, *rows]).tolist()
        self._opened: dict[int, tuple[DecodedAhead, ExitStack]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._keep(range(0))

    def __len__(self) -> int:
        return self._manifest.rows

    def __getitem__(self, rows: slice, /) -> Tensor:
        start, stop, _ = rows.indices(len(self))
        parts = [torch.empty((0, *self._shape), dtype=torch.uint8)]
        for number, (first, end) in enumerate(zip(self._edges, self._edges[1:], strict=False)):
            if first < stop and start < end:
                shard = self._shard(number)
                parts.append(shard[max(start, first) - first : min(stop, end) - first])
        return parts[1] if len(parts) == 2 else torch.cat(parts)

    def _shard(self, number: int) -> DecodedAhead:
        wanted = range(number, min(number + 2, len(self._manifest.shards)))
        if number not in self._opened or len(self._manifest.shards) > 2:
            self._keep(wanted)
        for each in wanted:
            if each not in self._opened:
                self._opened[each] = self._open(each)
        return self._opened[number][0]

    def _open(self, number: int) -> tuple[DecodedAhead, ExitStack]:
        entry = self._manifest.shards[number]
        path = check_shard(self._folder, entry)
        # Threads that know of no inference mode fill what is made here.
        with torch.inference_mode(False), ExitStack() as stack:
            images = stack.enter_context(shard_images(path, self._shape, threads=self._threads))
            if len(images) != entry.rows:
                raise DataError(f"{path}: not {entry.rows} rows")
            return images, stack.pop_all()

    def _keep(self, numbers: range) -> None:
        for each in [number for number in self._opened if number not in numbers]:
            self._opened.pop(each)[1].close()
