"""The test images on which the champion does worst, drawn beside the truth."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.class_maps import palette
from pipeline.data.images import decode_stored
from pipeline.data.pictures import best_jpeg, data_uri
from pipeline.data.rows import read_rows
from pipeline.data.shards import read_manifest
from pipeline.errors import DataError
from pipeline.evaluate.result import ModelResult
from pipeline.report.galleries import MOST_SHOWN, QUALITIES, Gallery, ShownImage
from pipeline.tasks import Task

MOST_BYTES = 60_000  # of a picture
LEAST_SIDE = 128  # of a tile, pixels; smaller ones are enlarged


def worst_images(
    test: Path, result: ModelResult, classes: Sequence[str], task: Task
) -> Gallery | None:
    """The images of the folder `test` with the lowest scores of their own, None for no errors.

    Each is drawn as the task does. Raises DataError where the predictions are of other images.
    """
    if read_manifest(test).rows != len(result.test_targets):
        raise DataError(f"{test}: not the images that were tested; evaluate again")
    evidence = result.test_evidence(task)
    scores = np.array([task.scores(evidence[row : row + 1]).score for row in range(len(evidence))])
    judged = np.flatnonzero(evidence.reshape(len(evidence), -1).any(axis=1) & (scores < 1))
    order: list[int] = judged[np.argsort(scores[judged], kind="stable")[:MOST_SHOWN]].tolist()
    if not order:
        return None
    table = read_rows(test, order, ["id", "image"])
    rows = zip(order, table["id"].to_pylist(), table["image"].to_pylist(), strict=True)
    images = []
    for row, name, data in rows:
        tiles = task.tiles(
            decode_stored(data),
            result.test_predictions[row],
            result.test_targets[row],
            len(classes),
        )
        words = f"{task.score_words} {100 * scores[row]:.0f} %"
        images.append(ShownImage(name, picture_uri(tiles), words, ()))
    return Gallery(
        "worst",
        "Worst images",
        f"Test images with the lowest {task.score_words} of their own, worst first. In each "
        "picture: the image and the truth, below them the prediction and the errors, red where it "
        "is wrong and dark where the truth is ignored.",
        tuple(images),
        answers=False,
        legend=legend(classes),
    )


def legend(classes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The colours of the classes in pictures, as a style sheet has them."""
    colours = ("#" + bytes(colour).hex() for colour in palette(len(classes)).tolist())
    return tuple(zip(classes, colours, strict=True))


def picture_uri(tiles: Sequence[NDArray[np.uint8]]) -> str:
    """Tiles (S, S, 3), two in a row, as one picture; small ones enlarged by a whole factor."""
    side = len(tiles[0])
    factor, step = max(1, -(-LEAST_SIDE // side)), side + 1
    sheet = np.full((-(-len(tiles) // 2) * step - 1, 2 * side + 1, 3), 255, np.uint8)
    for place, tile in enumerate(tiles):
        top, left = place // 2 * step, place % 2 * step
        sheet[top : top + side, left : left + side] = tile
    image, out = Image.fromarray(sheet.repeat(factor, 0).repeat(factor, 1)), io.BytesIO()
    image.save(out, "PNG", optimize=True)
    if out.tell() <= MOST_BYTES:
        return data_uri(out.getvalue(), "PNG")
    return data_uri(best_jpeg(image, MOST_BYTES, QUALITIES), "JPEG")
