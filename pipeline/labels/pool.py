"""The images that a queue chooses from, as features: a bounded sample, a shard at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.features import check_finite
from pipeline.data.rows import read_rows
from pipeline.data.shards import read_manifest
from pipeline.data.tensors import decode_images, stored_shape
from pipeline.labels.typical import Floats, Integers
from pipeline.models.parts import batched_features
from pipeline.progress import Advance

Embed = Callable[[Tensor], Tensor]  # images (n, C, S, S) uint8 to features (n, F) on the CPU
PIXELS_SIDE = 16  # images are averaged to this side before their pixels are compared


def sampled_rows(total: int, most: int, *, seed: int) -> Integers:
    """At most `most` of the rows 0 to total - 1, in order, drawn from the seed."""
    if total <= most:
        return np.arange(total, dtype=np.int64)
    sample = np.random.default_rng(seed).choice(total, most, replace=False, shuffle=False)
    return np.sort(sample).astype(np.int64)


def read_pool(folder: Path, rows: Integers, embed: Embed, advance: Advance) -> Floats:
    """What `embed` makes of these rows of a prepared folder, in order, (n, F); one shard in memory.

    rows: (n,), counted over all shards. Raises DataError where a shard is missing or altered, or an
    image can't be decoded.
    """
    manifest = read_manifest(folder)
    ends = np.cumsum([0, *(entry.rows for entry in manifest.shards)])
    parts: list[NDArray[np.float32]] = []
    for start, end in pairwise(ends.tolist()):
        shard_rows = rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)]
        if len(shard_rows):
            parts.append(embed(_decoded(folder, shard_rows.tolist())).numpy().astype(np.float32))
            advance(len(shard_rows))
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


def pixel_features(images: Tensor) -> Tensor:
    """The pixels of (n, C, S, S) uint8 themselves, averaged to PIXELS_SIDE: (n, C × side²)."""
    side = min(PIXELS_SIDE, images.shape[-1])
    return F.adaptive_avg_pool2d(images.float() / 255, side).flatten(1)


def network_features(
    network: nn.Module,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int,
    device: str = "cpu",
) -> Embed:
    """What the network's classifier reads, at length 1; the network's spec has mean and std."""
    network.to(device)

    def embed(images: Tensor) -> Tensor:
        parts = [
            batched_features(network, part.to(device), mean=mean, std=std, batch_size=batch_size)
            for part in torch.split(images, batch_size)
        ]
        found = F.normalize(torch.cat(parts)).cpu()
        check_finite(found.numpy())
        return found

    return embed


def _decoded(folder: Path, rows: Sequence[int]) -> Tensor:
    files = read_rows(folder, rows, ["image"]).column("image").to_pylist()
    return decode_images(files, stored_shape(folder, read_manifest(folder)), folder)
