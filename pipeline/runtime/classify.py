"""Classify encoded images with a checkpoint: what the model logged to MLflow does."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline.data.images import BadImageError, decode
from pipeline.errors import DataError
from pipeline.models.checkpoint import Checkpoint

Table = NDArray[np.float32]

MAX_PIXELS = 64_000_000
BATCH_SIZE = 64


def classify(checkpoint: Checkpoint, given: Any) -> pd.DataFrame:
    """One row an image: label, confidence, and `probability_<class>` for each class.

    given: a data frame or dictionary with a column `image`, an array or a list, of image bytes
    or base64 text. Raises DataError, naming the row, for what is no image.
    """
    images = image_column(given)
    classes = list(checkpoint.spec.classes)
    table = np.empty((len(images), len(classes)), np.float32)
    for start in range(0, len(images), BATCH_SIZE):
        some = images[start : start + BATCH_SIZE]
        table[start : start + BATCH_SIZE] = probabilities(checkpoint, some, first_row=start)
    columns = {f"probability_{name}": table[:, k] for k, name in enumerate(classes)}
    labels = [classes[index] for index in table.argmax(1)]
    return pd.DataFrame({"label": labels, "confidence": table.max(1), **columns})


def image_column(given: Any) -> list[bytes]:
    """The images of a data frame, a dictionary, an array or a list, as bytes."""
    if isinstance(given, pd.DataFrame | dict):
        if "image" not in given:
            raise DataError(f"the input needs a column `image`, it has {list(given)}")
        given = given["image"]
    if isinstance(given, bytes | str):
        given = [given]
    return [image_bytes(value, row) for row, value in enumerate(np.array(given, object).ravel())]


def image_bytes(value: object, row: int) -> bytes:
    """One image's bytes, decoded from base64 where they are text."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        raise DataError(f"image {row}: bytes or base64 text needed, got {type(value).__name__}")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise DataError(f"image {row}: not base64 text ({error})") from None


def decoded(data: bytes, row: int, *, image_size: int, channels: int) -> torch.Tensor:
    """The pixels (C, S, S) uint8 of one encoded image."""
    try:
        pixels = decode(data, image_size=image_size, channels=channels, max_pixels=MAX_PIXELS)
    except BadImageError as error:
        raise DataError(f"image {row}: {error}") from None
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


@torch.inference_mode()
def probabilities(checkpoint: Checkpoint, images: Sequence[bytes], first_row: int = 0) -> Table:
    """Class probabilities (N, classes) float32 of encoded images."""
    spec = checkpoint.spec
    pixels = [
        decoded(data, row, image_size=spec.image_size, channels=spec.channels)
        for row, data in enumerate(images, first_row)
    ]
    scaled = torch.stack(pixels).float() / 255
    mean = torch.tensor(spec.mean).view(1, -1, 1, 1)
    std = torch.tensor(spec.std).view(1, -1, 1, 1)
    logits = checkpoint.network((scaled - mean) / std)
    table: Table = torch.softmax(logits.float() / spec.temperature, 1).numpy()
    return table
