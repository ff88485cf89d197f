"""What is drawn for a batch: its rows or images, and the randomness of its views.

Each stream of a run has its own seeds, so that one draws the same whatever the others do.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pipeline import augment as augmentation
from pipeline.data.batches import batch_rows
from pipeline.data.streamed import Drawn, ShardStream
from pipeline.train.worker import Worker

Stream = Literal["labeled", "unlabeled", "weak", "second"]
# 2 is the network's own noise
STREAMS = {"labeled": 0, "unlabeled": 1, "weak": 3, "second": 4}


def sample_images(
    images: ShardStream, stream: Stream, seed: int, step: int, batch_size: int, worker: Worker
) -> Drawn:
    """This worker's part of global batch `step` of streamed images, on its device."""
    drawn = images.draw(step, batch_size, _stream_seed(stream, seed), worker.rows)
    targets = None if drawn.targets is None else drawn.targets.to(worker.device)
    return Drawn(drawn.images.to(worker.device), drawn.rows.to(worker.device), targets)


def sample_rows(
    stream: Stream, seed: int, step: int, batch_size: int, count: int, worker: Worker
) -> Tensor:
    """This worker's rows of global batch `step` of `count` images in memory, on its device."""
    rows = batch_rows(step, batch_size, count, _stream_seed(stream, seed))
    return torch.from_numpy(rows[worker.rows]).to(worker.device)


def sample_views(
    stream: Stream, seed: int, step: int, batch_size: int, worker: Worker
) -> augmentation.Draws:
    """What this worker's views of global batch `step` are drawn from."""
    return augmentation.Draws(
        _stream_seed(stream, seed, step), batch_size, worker.rows, str(worker.device)
    )


def _stream_seed(stream: Stream, *numbers: int) -> int:
    sequence = np.random.SeedSequence([STREAMS[stream], *numbers])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
