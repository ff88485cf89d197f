"""Label propagation: what the labelled images say of the others across a graph of near neighbours.

Zhou et al. 2004 on a network's features, with the graph of Iscen et al. 2019 (sec. 3.2): a teacher
may misread a way of writing a class that lies beside that class all the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.predictions import predictions_table, read_predictions
from pipeline.data.shards import iter_shards, read_manifest, read_shard, write_shard
from pipeline.errors import DataError
from pipeline.labels.align import aligned, alignment_shift
from pipeline.params import PropagationParams
from pipeline.progress import Advance

if TYPE_CHECKING:
    from pipeline.labels.pool import See

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

CUBED = 3  # power of a similarity that is the weight of an edge: gamma of Iscen et al.
ROWS_AT_ONCE = 1024  # compared with all others: memory ROWS_AT_ONCE × images × 4 bytes
LEAST_SHARE = 1e-6  # of a class: what neighbours say rules nothing out
MAX_ROUNDS, TOLERANCE = 2000, 1e-6


def neighbor_graph(features: Floats, neighbors: int) -> Any:
    """Who is near whom: a symmetric sparse matrix (N, N) of max(0, cosine)³, no image with itself.

    features: (N, F). An edge joins two images of which one is among the `neighbors` nearest of the
    other.
    """
    import torch
    from scipy.sparse import csr_array

    points = torch.nn.functional.normalize(torch.from_numpy(features))
    count, total = min(neighbors, len(features) - 1), len(features)
    near: list[Any] = []
    for start in range(0, total, ROWS_AT_ONCE):
        part = points[start : start + ROWS_AT_ONCE] @ points.T
        part[torch.arange(len(part)), torch.arange(start, start + len(part))] = -torch.inf
        near.append(part.topk(count, dim=1))
    alike = torch.cat([found.values for found in near]).clamp(min=0).double().numpy() ** CUBED
    columns = torch.cat([found.indices for found in near]).numpy()
    rows = np.repeat(np.arange(total), count)
    directed = csr_array((alike.ravel(), (rows, columns.ravel())), shape=(total, total))
    return directed.maximum(directed.T)


def propagated(
    known: Floats,
    labels: Integers,
    asked: Floats,
    num_classes: int,
    *,
    neighbors: int,
    reach: float,
) -> Floats:
    """The share of each class in what labelled images pass on to others: (M, K), rows sum to 1.

    known: (N, F) features of labelled images, labels: (N,); asked: (M, F). F ← reach · S F +
    (1 - reach) · Y until it stays, S the graph with rows and columns scaled by their degrees
    (Zhou et al. 2004, eq. 3). An image that nothing reaches has equal shares.
    """
    from scipy.sparse import diags_array

    graph = neighbor_graph(np.concatenate([known, asked]), neighbors)
    degrees = np.asarray(graph.sum(axis=1)).ravel()
    scale = diags_array(np.where(degrees > 0, degrees, 1.0) ** -0.5)
    spread = reach * (scale @ graph @ scale)
    given = np.zeros((graph.shape[0], num_classes))
    given[np.arange(len(labels)), labels] = 1 - reach
    now = given
    for _ in range(MAX_ROUNDS):
        last, now = now, spread @ now + given
        if np.abs(now - last).max() <= TOLERANCE * (1 - reach):
            break
    found = now[len(known) :]
    total = found.sum(axis=1, keepdims=True)
    shares = np.divide(found, total, out=np.full_like(found, 1 / num_classes), where=total > 0)
    return np.asarray(shares, np.float32)


def joined(
    log_probs: Floats,
    known: Floats,
    labels: Integers,
    asked: Floats,
    how: PropagationParams,
) -> Floats:
    """A teacher's predictions (M, K), weighted, times what the neighbours say; log of shares again.

    What they say is first moved to the classes' shares among the labels, without which the class
    whose labelled images lie densest takes most. See `propagated` for known, labels and asked.
    Raises DataError where a class has no labelled image.
    """
    num_classes = log_probs.shape[1]
    counts = np.bincount(labels, minlength=num_classes)
    if not counts.all():
        raise DataError(
            f"no labelled image of class number {int(counts.argmin())}, so nothing of it can be "
            "passed on; set predict.propagation to null"
        )
    shares = propagated(known, labels, asked, num_classes, neighbors=how.neighbors, reach=how.reach)
    said = np.log(shares + LEAST_SHARE).astype(np.float32)
    said = aligned(said, alignment_shift(said, counts / counts.sum()))
    return aligned(how.teacher_weight * log_probs + said, np.zeros(num_classes))


def propagate_folder(
    predictions: Path,
    out: Path,
    *,
    unlabeled: Path,
    labeled: Path,
    see: See,
    how: PropagationParams,
    advance: Advance,
) -> None:
    """Write the predictions of `predictions` to `out`, joined with what neighbours say.

    unlabeled, labeled: prepared folders; see: what makes features of images; `advance` is told the
    images seen. All features are in memory at once.
    """
    from pipeline.labels.pool import read_pool

    known = read_pool(labeled, np.arange(read_manifest(labeled).rows), see, advance)
    asked = read_pool(unlabeled, np.arange(read_manifest(unlabeled).rows), see, advance)
    labels = np.concatenate(
        [table.column("label").to_numpy() for table in iter_shards(labeled, ["label"])]
    ).astype(np.int64)
    shards = list(read_predictions(predictions))
    log_probs = np.concatenate([shard.log_probs for shard in shards])
    together = joined(log_probs, known.features, labels, asked.features, how)
    start = 0
    for number, (entry, shard) in enumerate(
        zip(read_manifest(predictions).shards, shards, strict=True)
    ):
        part = together[start : start + len(shard.ids)]
        metadata = read_shard(predictions / entry.file, ["id"]).schema.metadata
        precision = metadata[b"precision"].decode().split(", ")
        write_shard(out / entry.file, predictions_table(shard.ids, number, part, precision))
        start += len(part)
