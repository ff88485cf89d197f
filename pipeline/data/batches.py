"""Which rows a global batch holds: arithmetic on (seed, step), so that training resumes anywhere.

Every rank computes the same global batch and takes its `[rank::world_size]`, so the batches don't
depend on the number of workers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
