"""What is batch for a batch: its rows or images, and the randomness of its views.

Each stream of a run has its own seeds, so that one draws the same whatever the others do.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import augment as augmentation
from pipeline.data.streamed import ShardStream, StreamedBatch
from pipeline.train.worker import Worker

Stream = Literal["labeled", "unlabeled", "weak", "second"]
# 2 is the network's own noise
STREAMS = {"labeled": 0, "unlabeled": 1, "weak": 3, "second": 4}


def sample_images(
    images: ShardStream, stream: Stream, seed: int, step: int, batch_size: int, worker: Worker
) -> StreamedBatch:
    """This worker's part of global batch `step` of streamed images, on its device."""
    batch = images.batch(step, batch_size, _stream_seed(stream, seed), worker.rows)
    targets = None if batch.targets is None else batch.targets.to(worker.device)
    return StreamedBatch(batch.images.to(worker.device), batch.rows.to(worker.device), targets)


def sample_rows(
    stream: Stream, seed: int, step: int, batch_size: int, count: int, worker: Worker
) -> Tensor:
    """This worker's rows of global batch `step` of `count` images in memory, on its device."""
    rows = batch_rows(step, batch_size, count, _stream_seed(stream, seed))
    return torch.from_numpy(rows[worker.rows]).to(worker.device)


def sample_views(
    stream: Stream, seed: int, step: int, batch_size: int, worker: Worker
) -> augmentation.Draws:
    """What this worker's views of global batch `step` are batch from."""
    return augmentation.Draws(_stream_seed(stream, seed, step), batch_size, worker.rows)


def _stream_seed(stream: Stream, *numbers: int) -> int:
    sequence = np.random.SeedSequence([STREAMS[stream], *numbers])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def batch_rows(step: int, batch_size: int, count: int, seed: int) -> NDArray[np.int64]:
    """The rows of global batch `step`: (batch_size,) int64 in [0, count).

    Batches cut one endless row of seeded permutations of range(count), so each row comes once an
    epoch, whatever batch_size; a batch may reach over the end of an epoch, or over several.
    """
    if count < 1 or batch_size < 1 or step < 0:
        raise ValueError(f"no batch for step={step}, batch_size={batch_size}, count={count}")
    start = step * batch_size
    rows = np.empty(batch_size, dtype=np.int64)
    filled = 0
    while filled < batch_size:
        epoch, offset = divmod(start + filled, count)
        piece = _permutation(count, seed, epoch)[offset : offset + batch_size - filled]
        rows[filled : filled + len(piece)] = piece
        filled += len(piece)
    return rows


def rank_rows(rows: NDArray[Any], rank: int, world_size: int) -> NDArray[Any]:
    """The part of a global batch that one rank works on."""
    return rows[rank::world_size]


def epoch_of(step: int, batch_size: int, count: int) -> float:
    """How many times the rows have been gone through before global batch `step`."""
    return step * batch_size / count


@lru_cache(maxsize=8)
def _permutation(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    order = np.random.default_rng([seed, epoch]).permutation(count)
    order.setflags(write=False)
    return order
