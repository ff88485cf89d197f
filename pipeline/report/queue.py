"""Write a queue of images to label: a CSV, a page to label them on, files for labelling tools."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np

from pipeline.data.predictions import read_log_probs
from pipeline.data.preparation.answers import labeling_config, task, write_dataset
from pipeline.data.rows import read_rows
from pipeline.data.tensors import read_dataset
from pipeline.files import csv_text, replace_folder, write_json, write_text
from pipeline.labels.queue import Query, Strategy
from pipeline.report.galleries import Gallery, ShownImage, likeliest, thumbnail_uri
from pipeline.report.page import gallery_script, page_environment, page_styles
from pipeline.workflow.picking import Picked

QUEUE, PAGE = "queue.csv", "index.html"
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


@dataclass(frozen=True)
class QueuedImage:
    """An image of the queue, its stored bytes, and its likeliest classes; () without a model."""

    asked: Query
    image: bytes
    probabilities: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class QueueData:
    """A whole queue, in order; `generation`: whose teacher the probabilities are of, None: none."""

    way: Strategy
    images: tuple[QueuedImage, ...]
    dataset: str
    classes: tuple[str, ...]
    generation: str | None


def publish_queue(
    folder: Path, picked: Picked, prepared: Path, *, label_studio: bool, fiftyone: bool
) -> None:
    """Write the whole of `folder`, in the place of what was there, or nothing; see write_queue."""
    dataset = read_dataset(prepared)
    images = gather_queue(picked.asked, prepared / "unlabeled", picked.predictions, dataset.classes)
    data = QueueData(picked.way, images, dataset.source, dataset.classes, picked.generation)
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        finished = Path(scratch) / folder.name
        write_queue(finished, data, label_studio=label_studio, fiftyone=fiftyone)
        replace_folder(finished, folder)


def gather_queue(
    asked: Sequence[Query], unlabeled: Path, predictions: Path | None, classes: Sequence[str]
) -> tuple[QueuedImage, ...]:
    """The images themselves, and what the teacher of `predictions` thinks of them."""
    rows = [image.row for image in asked]
    if not rows:
        return ()
    stored = read_rows(unlabeled, rows, ["image"]).column("image").to_pylist()
    seen: list[tuple[tuple[str, float], ...]] = [()] * len(rows)
    if predictions is not None:
        probabilities = np.exp(read_log_probs(predictions, rows))
        seen = [likeliest(row, classes) for row in probabilities]
    return tuple(map(QueuedImage, asked, stored, seen))


def write_queue(folder: Path, data: QueueData, *, label_studio: bool, fiftyone: bool) -> None:
    """Write queue.csv and index.html to `folder`, and what the tools asked for import.

    label_studio: label_studio/tasks.json and config.xml; fiftyone: the data set fiftyone/.
    """
    write_text(folder / QUEUE, queue_csv(data.images))
    write_text(folder / PAGE, render_queue(data))
    guesses = {part.asked.id: part.probabilities[0] for part in data.images if part.probabilities}
    images = [(part.asked.id, part.image) for part in data.images]
    if label_studio:
        model = f"generation {data.generation}'s teacher"
        tasks = [task(name, image, guesses.get(name), model) for name, image in images]
        write_json(folder / "label_studio" / "tasks.json", tasks)
        write_text(folder / "label_studio" / "config.xml", labeling_config(data.classes))
    if fiftyone:
        write_dataset(folder / "fiftyone", images, guesses, data.classes)


def queue_csv(images: Sequence[QueuedImage]) -> str:
    """The queue as CSV, first the image to label first; no name can be a spreadsheet's formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rank, part in enumerate(images, start=1):
        label, confidence = "", ""
        if part.probabilities:
            label, confidence = part.probabilities[0][0], f"{part.probabilities[0][1]:.6f}"
        asked = part.asked
        row = (str(rank), asked.id, label, confidence, f"{asked.score:.6g}", asked.why)
        writer.writerow(csv_text(value) for value in row)
    return text.getvalue()


def render_queue(data: QueueData) -> str:
    """The page of thumbnails, on which a person can label the images and save corrections.csv."""
    shown = tuple(
        ShownImage(part.asked.id, thumbnail_uri(part.image), part.asked.why, part.probabilities)
        for part in data.images
    )
    gallery = Gallery(data.way, *TITLES[data.way], shown)
    page: str = (
        page_environment()
        .get_template("pick.html")
        .render(
            dataset=data.dataset,
            data=SimpleNamespace(galleries=(gallery,), classes=data.classes),
            taught=data.generation,
            script=gallery_script(),
            **page_styles(),
        )
    )
    return page
