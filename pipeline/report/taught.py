"""Unlabelled images beside what the last student was taught of them, where that is no one class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from pipeline.data.images import decode_stored
from pipeline.data.predictions import pseudo_label_schema, targets_of
from pipeline.data.rows import read_rows
from pipeline.data.shards import shown_shards
from pipeline.data.stored_shards import read_derived
from pipeline.labels.doubt import Columns, narrowed
from pipeline.labels.select import Reason
from pipeline.report.galleries import Gallery, ShownImage, lowest
from pipeline.report.worst import legend, picture_uri
from pipeline.tasks import Task

MOST_TAUGHT = 12  # images of a gallery; each is a picture of several
IN_PICTURES = (
    "In each picture: the image, and beside it what the last student was taught of it, striped "
    "where that was ignored."
)
TITLES = {
    "surest": ("Surest", "Unlabelled images that the last teacher is surest of."),
    "least_sure": (
        "Least sure that were kept",
        "Unlabelled images that the last student learnt from although its teacher doubted them.",
    ),
    "missed": (
        "Nothing kept",
        "The surest of the images of which the last selection kept nothing.",
    ),
}


def taught_galleries(
    unlabeled: Path, pseudo_labels: Path, classes: Sequence[str], task: Task
) -> list[Gallery]:
    """The galleries of unlabelled images that hold any; pseudo_labels: the last selection's."""
    manifest = read_derived(pseudo_labels, unlabeled)
    if not manifest.rows:
        return []
    known = narrowed(_selected(pseudo_labels), lambda columns: chain(*_shown(columns).values()))
    order, places = known[0].tolist(), _shown(known)
    own = pseudo_label_schema(pseudo_labels, manifest, task).names
    taught = targets_of(pseudo_labels, manifest, read_rows(pseudo_labels, order, own), task)
    table = read_rows(unlabeled, order, ["id", "image"])
    names, files = table["id"].to_pylist(), table["image"].to_pylist()
    images = []
    for name, data, target, sure in zip(names, files, taught, known[1], strict=True):
        tiles = task.tiles(decode_stored(data), target, None, len(classes))
        words = f"{100 * sure:.0f} % sure"
        images.append(ShownImage(name, picture_uri(tiles), words, ()))
    return [
        Gallery(
            key,
            title,
            f"{about} {IN_PICTURES}",
            tuple(images[place] for place in places[key]),
            answers=False,
            legend=legend(classes),
        )
        for key, (title, about) in TITLES.items()
        if places[key]
    ]


def _selected(pseudo_labels: Path) -> Iterator[Columns]:
    """Row, confidence and whether anything is kept of every image, a shard at a time."""
    first = 0
    for table in shown_shards(pseudo_labels, ["confidence", "reason"], "report: galleries"):
        kept = np.array(table.column("reason").to_pylist()) == Reason.KEPT.text
        yield first + np.arange(len(kept)), table.column("confidence").to_numpy(), kept
        first += len(kept)


def _shown(columns: Columns) -> dict[str, list[int]]:
    """The places of each gallery's images among those of _selected."""
    _, sure, kept = columns
    return {
        "surest": lowest(-sure, kept, MOST_TAUGHT),
        "least_sure": lowest(sure, kept, MOST_TAUGHT),
        "missed": lowest(-sure, ~kept, MOST_TAUGHT),
    }
