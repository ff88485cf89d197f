"""Answer image files where a row can't say all: by a file for each, overlays, and a table."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import dropwhile
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from PIL import Image

from pipeline.data.decoding import decode_pictures
from pipeline.data.images import decode_stored, endings
from pipeline.data.sources.rows import Row
from pipeline.errors import SourceError
from pipeline.evaluate.classifier import Answers, Classifier
from pipeline.evaluate.predict_files import (
    Images,
    Summary,
    answers_table,
    classify_rows,
    row_batches,
    table_writer,
)
from pipeline.evaluate.recipe import BATCH_SIZE
from pipeline.files import LONGEST_NAME, folder_written_whole
from pipeline.progress import progress

TABLE, OVERLAYS = "predictions.csv", "overlays"
OVERLAY_SIDE = 2048  # pixels of an overlay's longer side, at most
OVERLAY_BYTES, QUALITY = 64 << 20, 90


def predict_folder(
    classifier: Classifier,
    images: Images,
    out: Path,
    *,
    overlay: bool = False,
    batch_size: int = BATCH_SIZE,
    threads: int = 1,
) -> Summary:
    """Write answers to the folder `out`, whole or not at all, in place of what was there.

    Of each image a file of the task (Task.encode_answer), at the image's own upright size, in a
    folder called by Task.answer_file, with the id as its path; TABLE has a row for each, as
    predict_files, with the column `file`. overlay: the answers drawn over the images, in OVERLAYS.
    Raises SourceError for an id that leads out of the folder, or two whose files have one name.
    """
    summary = Summary()
    with (
        folder_written_whole(out) as folder,
        table_writer(folder / TABLE, classifier, ["file"]) as write,
        progress("predict", len(images)) as advance,
    ):
        for batch in row_batches(images.rows(), batch_size):
            answers = classify_rows(classifier, batch, threads=threads)
            files = _write_files(classifier, batch, answers, folder, overlay=overlay)
            ids = [row.id for row in batch]
            write(answers_table(classifier, ids, answers, {"file": pa.array(files, pa.string())}))
            summary.add(ids, answers.problems)
            advance(len(batch))
            del batch  # before the next is read
    return summary


def _write_files(
    classifier: Classifier, batch: Sequence[Row], answers: Answers, folder: Path, *, overlay: bool
) -> list[str | None]:
    """Write what is said of some images; the path of each in the folder, None where it has none."""
    task, classes, names = classifier.task, classifier.spec.classes, list[str | None]()
    for row, place in zip(batch, answers.rows, strict=True):
        if place is None:
            names.append(None)
            continue
        prediction, size = answers.predictions[place], answers.sizes[place]
        answer = task.answer(prediction, size, classes)
        name = f"{task.answer_file}s/{_name(row.id)}.png"
        _write_new(folder / name, task.encode_answer(answer, len(classes)), row.id)
        names.append(name)
        if overlay:
            drawn = _overlay(classifier, row.image, prediction)
            _write_new(folder / OVERLAYS / f"{_name(row.id)}.jpg", drawn, row.id)
    return names


def _overlay(classifier: Classifier, image: bytes, prediction: Any) -> bytes:
    """A JPEG of an image with what is said of it."""
    task, classes, spec = classifier.task, classifier.spec.classes, classifier.spec
    (picture,) = decode_pictures(
        [image],
        side=OVERLAY_SIDE,
        most_bytes=OVERLAY_BYTES,
        max_pixels=classifier.recipe.max_pixels,
        bits=spec.bits,
    )
    if isinstance(picture, str):  # one that was decoded just before
        raise SourceError(f"an image can't be drawn over: {picture}")
    pixels, out = decode_stored(picture), io.BytesIO()
    answer = task.answer(prediction, pixels.shape[1::-1], classes)
    Image.fromarray(task.draw(pixels, answer, len(classes))).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _name(key: str) -> str:
    """The id of an image as the path of a file of ours, without ending; of a path that leads out of
    the current folder what follows."""
    path = PurePosixPath(key)
    if path.suffix.lower() in endings():
        path = path.with_suffix("")
    parts = path.parts[1:] if path.is_absolute() else path.parts
    parts = tuple(dropwhile("..".__eq__, parts))
    plain = ".." not in parts and all(part.isprintable() for part in parts)
    longest = max((len(f"{part}.png".encode()) for part in parts), default=0)
    if not (plain and 0 < longest <= LONGEST_NAME):
        raise SourceError(
            f"{key[:LONGEST_NAME]!r}: can't name a file in the folder of answers; give the folder "
            "that holds the images, or other ids"
        )
    return "/".join(parts)


def _write_new(path: Path, data: bytes, key: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(data)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise SourceError(
            f"{key!r}: its answer would have the name of another image's, {path.name}; rename one, "
            "or predict them apart"
        ) from None
