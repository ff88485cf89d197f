"""Classify encoded images given as a table: what the model logged to MLflow does."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import DataError
from pipeline.evaluate.classifier import Answers, Classifier, classify_encoded

BATCH_SIZE = 64
DATA_URI = re.compile(r"^\s*data:[^,]*;base64\s*,", re.IGNORECASE)


def classify(classifier: Classifier, given: Any) -> pd.DataFrame:
    """One row an image: label, confidence, `probability_<class>` for each class, and error.

    given: a data frame or dictionary with a column `image`, an array or a list, of image bytes
    or base64 text. An image that can't be classified has its reason in `error` and null in the
    other columns. Raises DataError where there is no column of images.
    """
    images = image_column(given)
    parts = [
        answers_table(classifier, images[start : start + BATCH_SIZE])
        for start in range(0, max(1, len(images)), BATCH_SIZE)
    ]
    return pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]


def answers_table(classifier: Classifier, images: list[bytes | str]) -> pd.DataFrame:
    """The rows of some images; a text is the reason why there are no bytes."""
    usable = [image for image in images if isinstance(image, bytes)]
    answers = classify_encoded(classifier, usable, batch_size=BATCH_SIZE)
    rows = np.full((len(images), len(classifier.spec.classes)), np.nan, np.float32)
    places = [row for row, image in enumerate(images) if isinstance(image, bytes)]
    problems: list[str | None] = [None if isinstance(image, bytes) else image for image in images]
    rows[places] = answers.probabilities
    for place, problem in zip(places, answers.problems, strict=True):
        problems[place] = problem
    return frame(Answers(rows, problems), classifier.spec.classes)


def frame(answers: Answers, classes: list[str]) -> pd.DataFrame:
    """The answers as a data frame, null where an image has none."""
    good = np.array([problem is None for problem in answers.problems], bool)
    table = answers.probabilities
    best = np.where(good[:, None], table, 0).argmax(1)
    labels = [classes[k] if ok else None for k, ok in zip(best, good, strict=True)]
    columns: dict[str, Any] = {
        "label": pd.Series(labels, dtype=object),  # as text, pandas would make NaN of None
        "confidence": _nullable(table[np.arange(len(table)), best], good),
    }
    columns |= {
        f"probability_{name}": _nullable(table[:, k], good) for k, name in enumerate(classes)
    }
    return pd.DataFrame(columns | {"error": pd.Series(answers.problems, dtype=object)})


def image_column(given: Any) -> list[bytes | str]:
    """The images of a data frame, a dictionary, an array or a list: bytes, or what is wrong."""
    if isinstance(given, pd.DataFrame | dict):
        if "image" not in given:
            raise DataError(f"the input needs a column `image`, it has {list(given)}")
        given = given["image"]
    if isinstance(given, bytes | str):
        given = [given]
    return [image_bytes(value) for value in _single(list(given))]


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


def _nullable(values: Any, good: Any) -> Any:
    """The values, None where they are not good: JSON has no NaN."""
    return values if good.all() else np.where(good, values.astype(object), None)
