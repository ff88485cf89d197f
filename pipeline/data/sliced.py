"""The images of a prepared folder in order, of which two shards at most are in memory decoded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.data.shards import check_shard, read_manifest
from pipeline.data.tensors import DecodedImages, shard_images, stored_shape
from pipeline.errors import DataError


class ShardSlices:
    """The images of a prepared folder, (n, C, S, S) uint8 a slice.

    `pool` decodes the shard that a slice is of and the next one; where there are no more than two,
    they stay. The SHA-256 of a shard is checked. A slice raises DataError for a shard or an image
    that is not as it should be.
    """

    def __init__(self, folder: Path, pool: ThreadPoolExecutor) -> None:
        self._folder, self._pool, self._manifest = folder, pool, read_manifest(folder)
        self._shape = stored_shape(folder, self._manifest)
        self._edges = np.cumsum([0, *(entry.rows for entry in self._manifest.shards)]).tolist()
        self._decoded: dict[int, DecodedImages] = {}

    def __len__(self) -> int:
        return self._manifest.rows

    def __getitem__(self, rows: slice, /) -> Tensor:
        start, stop, _ = rows.indices(len(self))
        parts = [torch.empty((0, *self._shape), dtype=torch.uint8)]
        for number, (first, end) in enumerate(pairwise(self._edges)):
            if first < stop and start < end:
                images = self._shard(number)
                parts.append(images[max(start, first) - first : min(stop, end) - first])
        return parts[1] if len(parts) == 2 else torch.cat(parts)

    def _shard(self, number: int) -> DecodedImages:
        shards = self._manifest.shards
        wanted = range(number, min(number + 2, len(shards)))
        if len(shards) > 2:
            self._decoded = {key: self._decoded[key] for key in wanted if key in self._decoded}
        for key in wanted:
            if key not in self._decoded:
                shard = check_shard(self._folder, shards[key])
                images = shard_images(shard, self._shape, self._pool)
                if len(images) != shards[key].rows:
                    raise DataError(f"{shard}: not {shards[key].rows} rows")
                self._decoded[key] = images
        return self._decoded[number]
