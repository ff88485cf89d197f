"""Which images the report shows: the surest, the least sure, the doubtful, those that changed."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.labels.doubt import diverse

MOST_SHOWN = 24
MOST_OFFERED = 48
MOST_PROBABILITIES = 5


@dataclass(frozen=True)
class ShownImage:
    """One image of a gallery: its id, data URI, what is under it, its likeliest classes, a note."""

    id: str
    thumbnail: str
    caption: str
    probabilities: tuple[tuple[str, float], ...]
    note: str = ""


@dataclass(frozen=True)
class Gallery:
    """Images under a heading, with a sentence on what they are."""

    key: str
    title: str
    about: str
    images: tuple[ShownImage, ...]


@dataclass(frozen=True)
class UnlabeledViews:
    """What is remembered of each of the N unlabelled images; all arrays (N,).

    labels, confidences, kept, strangers: the last selection's; before: what the teacher before saw,
    None where there is none; doubts, pairs: of all teachers so far, as doubt and class_pairs say.
    """

    labels: NDArray[np.int64]
    confidences: NDArray[np.float32]
    kept: NDArray[np.bool_]
    before: NDArray[np.int64] | None
    doubts: NDArray[np.float32]
    pairs: NDArray[np.int64]
    strangers: NDArray[np.bool_]


def chosen_rows(views: UnlabeledViews, num_classes: int) -> dict[str, list[int]]:
    """The rows of each gallery of unlabelled images, in the order in which they are shown."""
    labels, confidences, kept = views.labels, views.confidences, views.kept
    chosen = {
        "offered": diverse(views.doubts, views.pairs, MOST_OFFERED),
        "surest": surest_per_class(labels, confidences, kept, MOST_SHOWN),
        "least_sure": _first(confidences, kept, MOST_SHOWN),
        "missed": _first(-confidences, ~kept & ~views.strangers, MOST_SHOWN),
        "strangers": _first(confidences, views.strangers, MOST_SHOWN),
    }
    if views.before is not None:
        chosen["changed"] = _first(-confidences, views.before != labels, MOST_SHOWN)
    return chosen


def surest_per_class(
    labels: NDArray[np.int64],
    confidences: NDArray[np.float32],
    among: NDArray[np.bool_],
    most: int,
) -> list[int]:
    """The surest of each class, then the second of each, until `most`; shown class by class."""
    rows = np.flatnonzero(among)
    order = rows[np.lexsort((rows, -confidences[rows], labels[rows]))]
    starts = np.diff(labels[order], prepend=-1) != 0
    places = np.arange(len(order))
    rank = places - np.maximum.accumulate(np.where(starts, places, 0))
    taken = np.lexsort((order, -confidences[order], rank))[:most]
    rows_taken: list[int] = order[np.sort(taken)].tolist()
    return rows_taken


def likeliest(
    probabilities: NDArray[np.float32], classes: Sequence[str]
) -> tuple[tuple[str, float], ...]:
    """The first classes of one image, (K,) probabilities, likeliest first."""
    order = np.argsort(-probabilities, kind="stable")[:MOST_PROBABILITIES].tolist()
    return tuple((classes[place], float(probabilities[place])) for place in order)


def _first(values: NDArray[np.float32], among: NDArray[np.bool_], most: int) -> list[int]:
    """The rows of the lowest values among the rows of a mask; of equals the earlier."""
    rows = np.flatnonzero(among)
    order: list[int] = rows[np.argsort(values[rows], kind="stable")[:most]].tolist()
    return order


SIDE = 96  # of a thumbnail, pixels; the page shows it at about this size
MOST_BYTES = 6000
QUALITIES = (85, 70, 50, 30, 10)


def thumbnail_uri(data: bytes) -> str:
    """A stored image as a data URI of at most 4/3 × MOST_BYTES characters, and a few.

    What is small already stays as it is, to the pixel. Larger images are shrunk to SIDE and become
    JPEG, at the best of QUALITIES that fits.
    """
    image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
    if max(image.size) <= SIDE and len(data) <= MOST_BYTES:
        return _uri(data, (image.format or "PNG").lower())
    shrunk = image.convert("L" if image.mode in ("1", "L", "I;16") else "RGB")
    shrunk.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    for quality in QUALITIES:
        out = io.BytesIO()
        shrunk.save(out, "JPEG", quality=quality, optimize=True)
        if len(out.getvalue()) <= MOST_BYTES:
            break
    return _uri(out.getvalue(), "jpeg")


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
