"""Which unlabelled images a person should label next, in order: the one definition of the queue.

While labels are few, the typical ones (`typical`); later those that the teachers doubt or disagree
on (`doubt`), which the report offers too. Both look at a bounded part of the data at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.data.predictions import read_predictions
from pipeline.data.rows import find_rows, read_rows
from pipeline.data.shards import iter_shards, read_manifest
from pipeline.errors import DataError, counted
from pipeline.labels.doubt import Columns, diverse, image_doubts, narrowed, pair_names
from pipeline.labels.pool import Embed, read_pool, sampled_rows
from pipeline.labels.typical import reduced, typical_rows
from pipeline.progress import progress
from pipeline.tasks import Task
from pipeline.tasks.classification import TASK

Strategy = Literal["typical", "doubtful"]
FEW_PER_CLASS = 10  # labelled images of a class, on average, under which labels are few
MOST_IMAGES = 20_000  # that are clustered; of more, a sample
IMAGES_AT_ONCE = 32  # whose predictions are in memory, maps of up to 4 MiB


@dataclass(frozen=True)
class Query:
    """An image to label: its row among the unlabelled, its id, its score, and why it is asked for.

    score: typicality or doubt, by the strategy.
    """

    row: int
    id: str
    score: float
    why: str


def choose_strategy(
    *, num_labels: int, num_classes: int, taught: bool, image_classes: bool = True
) -> Strategy:
    """How to choose; taught: whether teachers have predicted the images; image_classes: whether an
    image has one class, else it shows many, and few labels say much."""
    few = image_classes and num_labels < FEW_PER_CLASS * num_classes
    return "typical" if few or not taught else "doubtful"


def typical_queue(
    unlabeled: Path,
    labeled: Path,
    embed: Embed,
    *,
    count: int,
    answered: Collection[str] = (),
    seed: int = 0,
    most_images: int = MOST_IMAGES,
) -> list[Query]:
    """The typical images of the clusters, those without a label first.

    unlabeled, labeled: prepared folders; embed: what makes features of images; answered: ids of
    images that a person labelled since, which are not asked for again. Of more than `most_images`
    a sample is clustered, by the seed.
    """
    most_images = max(most_images, 4 * count)
    known = find_rows(unlabeled, list(answered)).values() if answered else []
    rows = sampled_rows(read_manifest(unlabeled).rows, most_images, seed=seed)
    rows = np.union1d(rows, np.array(list(known), np.int64))
    beside = sampled_rows(read_manifest(labeled).rows, most_images, seed=seed)
    if not len(rows):
        return []
    with progress("pick: features", len(rows) + len(beside)) as advance:
        pool = read_pool(unlabeled, rows, embed, advance)
        others = read_pool(labeled, beside, embed, advance)
    features = np.concatenate([pool, others.reshape(len(beside), pool.shape[1])])
    is_known = np.concatenate([np.isin(rows, list(known)), np.ones(len(beside), np.bool_)])
    picks = typical_rows(reduced(features), is_known, count, seed=seed)
    ids = _ids(unlabeled, [int(rows[pick.row]) for pick in picks])
    return [
        Query(
            int(rows[pick.row]),
            name,
            pick.typicality,
            f"typical of {counted(pick.members, 'image')}",
        )
        for pick, name in zip(picks, ids, strict=True)
    ]


def doubtful_queue(
    unlabeled: Path,
    predictions: Sequence[Path],
    classes: Sequence[str],
    *,
    count: int,
    answered: Collection[str] = (),
    task: Task = TASK,
) -> list[Query]:
    """The images that the teachers doubt or disagree on, diverse by the classes in question.

    predictions: folders of what each teacher thought of the images in `unlabeled`, row by row; of
    an image with many units the mean doubt, and the classes that most of it is between.
    Raises DataError where they are of other images.
    """
    for folder in predictions:
        if not same_images(unlabeled, folder):
            raise DataError(
                f"{folder}: not of the images in {unlabeled}; selftrain run predicts these"
            )
    parts = _doubts(predictions, frozenset(answered), len(classes), task)
    known = narrowed(parts, lambda columns: diverse(columns[1], columns[2], count))
    if not known:
        return []
    rows, doubts, pairs = known
    order = diverse(doubts, pairs, count)
    picks = rows[order].tolist()
    ids = _ids(unlabeled, picks)
    return [
        Query(row, name, float(doubts[place]), pair_names(int(pairs[place]), classes))
        for place, row, name in zip(order, picks, ids, strict=True)
    ]


def same_images(unlabeled: Path, predictions: Path) -> bool:
    """Whether predictions are of the unlabelled images, shard by shard and row by row."""
    if not read_manifest(predictions).is_of(read_manifest(unlabeled)):
        return False
    both = zip(iter_shards(unlabeled, ["id"]), iter_shards(predictions, ["id"]), strict=True)
    return all(first["id"].equals(second["id"]) for first, second in both)


def _doubts(
    predictions: Sequence[Path], answered: frozenset[str], num_classes: int, task: Task
) -> Iterator[Columns]:
    """Row, doubt and pair of classes of the images not answered, a few at a time."""
    first = 0
    parts = (read_predictions(folder, task, IMAGES_AT_ONCE) for folder in predictions)
    for members in zip(*parts, strict=True):
        shares = [task.distributions(member.values, num_classes) for member in members]
        doubts, pairs = image_doubts(shares)
        places = np.flatnonzero([name not in answered for name in members[0].ids])
        yield first + places, doubts[places], pairs[places]
        first += len(doubts)


def _ids(folder: Path, rows: Sequence[int]) -> list[str]:
    names: list[str] = read_rows(folder, rows, ["id"]).column("id").to_pylist()
    return names
