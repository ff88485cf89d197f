"""Write a queue of images to label: a CSV, a page to label them on, files for labelling tools."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.data.answers.choices import labeling_config, task, write_dataset
from pipeline.data.predictions import read_some_predictions
from pipeline.data.rows import read_rows
from pipeline.data.tensors import read_dataset
from pipeline.files import csv_rows, folder_written_whole, write_json, write_text
from pipeline.labels.queue import Query
from pipeline.params import DataParams
from pipeline.report.galleries import (
    Gallery,
    Probabilities,
    ShownImage,
    likeliest,
    thumbnail_uri,
)
from pipeline.report.originals import shown_pictures
from pipeline.report.page import render
from pipeline.tasks.classification import TASK
from pipeline.workflow.picking import Picked

COLUMNS = ("rank", "id", "label", "confidence", "score", "why")
TITLES = {
    "typical": (
        "Typical images",
        "Each stands for a cluster of similar images, the largest clusters without a label first.",
    ),
    "doubtful": (
        "Doubtful images",
        "Between two classes, or seen differently by the teachers; of each such pair of classes "
        "some.",
    ),
}


def publish_queue(
    folder: Path,
    picked: Picked,
    prepared: Path,
    data: DataParams,
    *,
    label_studio: bool,
    fiftyone: bool,
) -> None:
    """Write queue.csv and index.html to `folder`, in the place of what was there, or nothing.

    label_studio: also label_studio/tasks.json and config.xml; fiftyone: also the data set
    fiftyone/; both for import there.
    """
    dataset, queries = read_dataset(prepared), picked.queries
    rows = [query.row for query in queries]
    images = read_rows(prepared / "unlabeled", rows, ["image"]).column("image").to_pylist()
    likely: list[Probabilities] = [()] * len(rows)
    if picked.predictions is not None:
        probabilities = np.exp(read_some_predictions(picked.predictions, rows, TASK))
        likely = [likeliest(row, dataset.classes) for row in probabilities]
    shown = tuple(
        ShownImage(query.id, thumbnail_uri(image), query.why, classes, stored=image)
        for query, image, classes in zip(queries, images, likely, strict=True)
    )
    page = render(
        "pick.html",
        dataset=data.title,
        pictures=shown_pictures(shown, data),
        galleries=[Gallery(picked.strategy, *TITLES[picked.strategy], shown)],
        classes=dataset.classes,
        generation=picked.generation,
    )
    guesses = {query.id: first[0] for query, first in zip(queries, likely, strict=True) if first}
    named = [(query.id, image) for query, image in zip(queries, images, strict=True)]
    with folder_written_whole(folder.resolve()) as finished:
        write_text(finished / "queue.csv", queue_csv(queries, likely))
        write_text(finished / "index.html", page)
        if label_studio:
            model = f"generation {picked.generation}'s teacher"
            tasks = [task(name, image, guesses.get(name), model) for name, image in named]
            write_json(finished / "label_studio" / "tasks.json", tasks)
            config = labeling_config(dataset.classes)
            write_text(finished / "label_studio" / "config.xml", config)
        if fiftyone:
            write_dataset(finished / "fiftyone", named, guesses, dataset.classes)


def queue_csv(queries: Sequence[Query], likely: Sequence[Probabilities]) -> str:
    """The queue as CSV, first the image to label first; no name can be a spreadsheet's formula.

    likely: the likeliest classes of each, () without a model.
    """
    text = io.StringIO()
    csv_rows(text, [COLUMNS])
    for rank, (query, classes) in enumerate(zip(queries, likely, strict=True), start=1):
        guess = (classes[0][0], f"{classes[0][1]:.6f}") if classes else ("", "")
        row = (rank, query.id, *guess, f"{query.score:.6g}", query.why)
        csv_rows(text, [row])
    return text.getvalue()
