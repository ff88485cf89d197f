"""Write a queue of images whose masks are worth a correction, and files for labelling tools."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.data.answers.mask_answers import MOST_SIDE, fits
from pipeline.data.answers.mask_tasks import (
    MaskTask,
    label_studio_task,
    mask_config,
    write_coco,
)
from pipeline.data.encoding import encode_png
from pipeline.data.fit import place_of
from pipeline.data.images import decode_stored
from pipeline.data.predictions import read_some_predictions
from pipeline.data.rows import SIZE, read_rows, sizes_of
from pipeline.data.tensors import read_dataset
from pipeline.files import folder_written_whole, write_json, write_text
from pipeline.params import DataParams
from pipeline.report.galleries import Gallery, ShownImage, thumbnail_uri
from pipeline.report.originals import original_pictures
from pipeline.report.page import render
from pipeline.report.queue import TITLES, queue_csv
from pipeline.report.worst import legend, picture_uri
from pipeline.tasks import Task
from pipeline.workflow.picking import Picked

ABOUT = (
    "Pixels that lie between two classes, or that the teachers see differently; of each pair of "
    "classes some. Each image, and beside it what the last teacher says of it."
)
MOST_BYTES, MOST_PICTURES = 4 << 20, 128 << 20  # of a picture, of all; Label Studio takes 250 MB


def publish_masks(
    folder: Path,
    picked: Picked,
    prepared: Path,
    data: DataParams,
    task: Task,
    *,
    label_studio: bool,
    coco: bool,
) -> None:
    """Write queue.csv and index.html to `folder`, in the place of what was there, or nothing.

    label_studio: also label_studio/tasks.json and config.xml; coco: also the images and
    annotations.json of coco/; with what the latest teacher says of each pixel.
    """
    dataset, queries = read_dataset(prepared), picked.queries
    rows = [query.row for query in queries]
    table = read_rows(prepared / "unlabeled", rows, ["image", *(item.name for item in SIZE)])
    images = table["image"].to_pylist()
    sizes = [(width, height) for width, height in sizes_of(table, prepared).tolist()]
    predictions: Any = [None] * len(rows)
    if picked.predictions is not None:
        predictions = read_some_predictions(picked.predictions, rows, task)
    shown = [
        ShownImage(query.id, _tiles(image, prediction, task, len(dataset.classes)), query.why, ())
        for query, image, prediction in zip(queries, images, predictions, strict=True)
    ]
    title, about = TITLES[picked.strategy]
    page = render(
        "pick.html",
        dataset=data.title,
        pictures={},
        galleries=[
            Gallery(
                picked.strategy,
                title,
                about if picked.strategy == "typical" else ABOUT,
                tuple(shown),
                answers=False,
                legend=() if picked.predictions is None else legend(dataset.classes),
            )
        ],
        classes=dataset.classes,
        generation=picked.generation,
    )
    tasks = list[MaskTask]()
    if label_studio or coco:
        names = [query.id for query in queries]
        tasks = _tasks(names, images, sizes, predictions, dataset.classes, data, task)
    with folder_written_whole(folder.resolve()) as finished:
        write_text(finished / "queue.csv", queue_csv(queries, [()] * len(queries)))
        write_text(finished / "index.html", page)
        if label_studio:
            model = f"generation {picked.generation}'s teacher"
            made = list(map(label_studio_task, tasks, repeat(dataset.classes), repeat(model)))
            write_json(finished / "label_studio" / "tasks.json", made)
            write_text(finished / "label_studio" / "config.xml", mask_config(dataset.classes))
        if coco:
            write_coco(finished / "coco", tasks, dataset.classes)


def _tiles(image: bytes, prediction: Any, task: Task, num_classes: int) -> str:
    """An image, beside it a prediction where there is one."""
    if prediction is None:
        return thumbnail_uri(image)
    return picture_uri(task.tiles(decode_stored(image), prediction, None, num_classes))


def _tasks(
    ids: Sequence[str],
    images: Sequence[bytes],
    sizes: Sequence[tuple[int, int]],
    predictions: Sequence[Any],
    classes: Sequence[str],
    data: DataParams,
    task: Task,
) -> list[MaskTask]:
    """The images as their users have them, else as they are stored, each with its answer."""
    most = min(MOST_BYTES, MOST_PICTURES // len(ids))
    own = original_pictures(data, ids, side=MOST_SIDE, most_bytes=most)
    tasks = []
    for image_id, image, size, prediction in zip(ids, images, sizes, predictions, strict=True):
        picture, kind = own.get(image_id, b""), "jpeg"
        shown = _size_of(picture) if picture else (0, 0)
        if not fits(shown, size):  # it is gone, or another one by now
            square = decode_stored(image)
            left, top, right, bottom = place_of(*size, len(square))
            picture, kind = encode_png(square[top:bottom, left:right]), "png"
            shown = right - left, bottom - top
        mask, confidence = None, 0.0
        if prediction is not None:
            mask = task.answer(prediction, shown, classes)
            (confidence,) = task.answer_columns(prediction[None], classes)["confidence"].to_pylist()
        tasks.append(MaskTask(image_id, picture, kind, shown, mask, confidence))
    return tasks


def _size_of(picture: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(picture), formats=("JPEG",)) as opened:
        return opened.size
