"""Unlabelled images beside what the last student was taught of them, where that is no one class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.data.images import decode_png
from pipeline.data.predictions import pseudo_label_schema, targets_of
from pipeline.data.rows import read_rows
from pipeline.data.shards import read_manifest, shown_shards
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
    manifest = read_manifest(pseudo_labels)
    if not manifest.rows:
        return []
    columns = ["confidence", "reason"]
    tables = [*shown_shards(pseudo_labels, columns, "report: galleries")]
    sure = np.concatenate([table.column("confidence").to_numpy() for table in tables])
    reasons = [np.array(table.column("reason").to_pylist()) for table in tables]
    kept = np.concatenate(reasons) == Reason.KEPT.text
    rows = {
        "surest": lowest(-sure, kept, MOST_TAUGHT),
        "least_sure": lowest(sure, kept, MOST_TAUGHT),
        "missed": lowest(-sure, ~kept, MOST_TAUGHT),
    }
    order = sorted({row for part in rows.values() for row in part})
    names = pseudo_label_schema(pseudo_labels, manifest, task).names
    taught = targets_of(pseudo_labels, manifest, read_rows(pseudo_labels, order, names), task)
    table = read_rows(unlabeled, order, ["id", "image"])
    files = zip(order, table["id"].to_pylist(), table["image"].to_pylist(), taught, strict=True)
    images = {}
    for row, name, data, target in files:
        tiles = task.tiles(decode_png(data), target, None, len(classes))
        words = f"{100 * sure[row]:.0f} % sure"
        images[row] = ShownImage(name, picture_uri(tiles), words, ())
    return [
        Gallery(
            key,
            title,
            f"{about} {IN_PICTURES}",
            tuple(images[row] for row in rows[key]),
            answers=False,
            legend=legend(classes),
        )
        for key, (title, about) in TITLES.items()
        if rows[key]
    ]
