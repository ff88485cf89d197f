"""Classify encoded images given as a table: what the model logged to MLflow does."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.data.sources.rows import Row
from pipeline.errors import DataError
from pipeline.evaluate.classifier import Answers, Classifier
from pipeline.evaluate.predict_files import answers_table, classify_rows, row_batches

DATA_URI = re.compile(r"^\s*data:[^,]*;base64\s*,", re.IGNORECASE)


def classify(classifier: Classifier, images: Any) -> pd.DataFrame:
    """One row an image: the columns of Task.answer_columns, of a task with an answer_file this as
    base64 text, and error. Of one class an image: label, confidence, `probability_<class>`.

    images: a data frame or dictionary with a column `image`, an array or a list, of image bytes
    or base64 text. An image that can't be classified has its reason in `error` and null in the
    other columns. Raises DataError where there is no column of images.
    """
    tables = []
    rows = map(_row, image_column(images))
    for batch in chain(row_batches(rows), [[]]):  # a table of no image too has columns
        answers = classify_rows(classifier, batch)
        ids, files = [row.id for row in batch], _files(classifier, answers)
        tables.append(answers_table(classifier, ids, answers, files))
    frame = pa.concat_tables(tables).drop_columns(["id"]).to_pandas()
    # As objects null stays None, of which JSON, unlike of NaN, has a form.
    texts = {"label", "error", classifier.task.answer_file}
    some = [name for name in frame if name in texts or frame[name].isna().any()]
    return frame.astype(dict.fromkeys(some, object)).where(frame.notna(), None)


def _files(classifier: Classifier, answers: Answers) -> dict[str, Any]:
    """The column of files, of a task that answers by them."""
    task, classes = classifier.task, classifier.spec.classes
    if task.answer_file is None:
        return {}
    texts = [
        None
        if row is None
        else base64.b64encode(
            task.encode_answer(
                task.answer(answers.predictions[row], answers.sizes[row], classes), len(classes)
            )
        ).decode()
        for row in answers.rows
    ]
    return {task.answer_file: pa.array(texts, pa.string())}


def _row(image: bytes | str) -> Row:
    if isinstance(image, bytes):
        return Row("", image)
    return Row("", b"", problem=image)


def image_column(images: Any) -> Iterator[bytes | str]:
    """The images of a data frame, a dictionary, an array or a list: bytes, or what is wrong.

    Each is decoded from base64 when it is asked for.
    """
    if isinstance(images, pd.DataFrame | dict):
        if "image" not in images:
            raise DataError(f"the input needs a column `image`, it has {list(images)}")
        images = images["image"]
    if isinstance(images, bytes | str):
        images = [images]
    return map(image_bytes, _single(list(images)))


def _single(values: Iterable[object]) -> Iterator[object]:
    """Each value; MLflow puts a request's whole list of images into one cell."""
    for value in values:
        if isinstance(value, list | tuple | np.ndarray):
            yield from _single(value)
        else:
            yield value


def image_bytes(value: object) -> bytes | str:
    """One image's bytes, decoded from base64 where they are text; a text is what is wrong.

    Base64 may be broken into lines, and lie in a data URI.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        return f"bytes or base64 text needed, got {type(value).__name__}"
    try:
        return base64.b64decode("".join(DATA_URI.sub("", value).split()), validate=True)
    except (binascii.Error, ValueError) as error:
        return f"not base64 text ({error})"
