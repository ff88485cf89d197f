"""Masks of COCO's annotations: polygons, runs as numbers, and runs as text (RLE).

Runs are lengths outside and inside in turn, down the columns of the image. All of it is a
stranger's: what it would take is bounded before anything is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.encoding import encode_png
from pipeline.data.masks import IGNORED
from pipeline.data.sources.mask_classes import MAX_PIXELS

MOST_PAINTED = 1 << 31  # pixels of all annotations of an image
MOST_OUTLINE = 2_000_000  # pixels of one polygon's outline
LONGEST_RUN = 6  # letters of a number in RLE: 30 bits

Ints = NDArray[np.int64]


def rasterized(size: tuple[Any, Any], annotations: Sequence[tuple[int | None, Any]]) -> bytes:
    """`class_pixels` as PNG."""
    return encode_png(class_pixels(size, annotations)[:, :, None])


def class_pixels(
    size: tuple[Any, Any], annotations: Sequence[tuple[int | None, Any]], rest: int = 0
) -> NDArray[np.uint8]:
    """The mask of (height, width), of classes and segmentations; None: ignored, and below all
    others; rest: the class of what none covers. Raises ValueError for what can't be drawn."""
    height, width = size
    if not all(isinstance(side, int) and 0 < side <= MAX_PIXELS for side in size):
        raise ValueError(f"height {height!r} and width {width!r} of its image are no sizes")
    if height * width > MAX_PIXELS:
        raise ValueError(f"{width}x{height} is over {MAX_PIXELS:,} pixels")
    layers, painted = [], 0
    for place, (label, segmentation) in enumerate(annotations):
        parts = []
        for runs in _runs(segmentation, height, width):
            ends = np.cumsum(runs)
            if not len(runs) or runs.min() < 0 or ends[-1] != height * width:
                raise ValueError("an annotation's runs do not fit the image")
            starts, stops = ends[: len(ends) // 2 * 2 : 2], ends[1::2]
            parts.append((starts, stops))
        area = int(sum((stops - starts).sum() for starts, stops in parts))
        layers += [(label is not None, -area, place, *part) for part in parts]
        painted += area
    if painted > MOST_PAINTED:
        raise ValueError(f"annotations cover over {MOST_PAINTED:,} pixels")
    columns = np.full(height * width, rest, np.uint8)  # COCO counts pixels down the columns
    for _, _, place, starts, stops in sorted(layers, key=lambda layer: layer[:3]):
        label = annotations[place][0]
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            columns[start:stop] = IGNORED if label is None else label
    return np.ascontiguousarray(columns.reshape(width, height).T)


def _runs(segmentation: Any, height: int, width: int) -> Iterator[Ints]:
    """The lengths of runs outside and inside in turn, down the columns, of each part."""
    if isinstance(segmentation, dict):
        if segmentation.get("size") != [height, width]:
            raise ValueError(f"an annotation's RLE is not of {width}x{height} pixels")
        counts = segmentation.get("counts")
        if isinstance(counts, str):
            yield _unpacked(counts.encode())
        elif isinstance(counts, list) and all(type(each) is int for each in counts):
            yield np.array([min(each, MAX_PIXELS + 1) for each in counts], np.int64)
        else:
            raise ValueError("an annotation's RLE has no counts")
    elif isinstance(segmentation, list) and segmentation:
        parts = [_outlined(polygon, height, width) for polygon in segmentation]
        empty = not any(runs[1::2].any() for runs in parts)
        if empty and _lies_outside(segmentation, (width, height)):
            raise ValueError("an annotation lies outside of the image")
        yield from parts
    else:
        raise ValueError("an annotation has no polygon and no RLE")


def _lies_outside(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> bool:
    """Whether no corner is inside width and height, and one beyond; what is drawn of no pixel for
    it is too thin is not."""
    corners = np.concatenate([np.array(each, np.float64).reshape(-1, 2) for each in polygons])
    inside = ((corners > 0) & (corners < size)).all(axis=1)
    return not inside.any() and bool(((corners < 0) | (corners > size)).any())


def _outlined(polygon: Any, height: int, width: int) -> Ints:
    """Runs of a polygon, x and y in turn."""
    from pycocotools.mask import frPyObjects

    numbers = polygon if isinstance(polygon, list) else []
    if len(numbers) < 6 or len(numbers) % 2 or not all(type(n) in (int, float) for n in numbers):
        raise ValueError("a polygon is not a list of x and y of three points or more")
    if not all(abs(number) <= 1 << 30 for number in numbers):
        raise ValueError("a polygon lies far outside of the image")
    points, size = np.array(numbers, np.float64).reshape(-1, 2), np.array([width, height])
    if (points < -size).any() or (points > 2 * size).any():
        raise ValueError("a polygon lies far outside of the image")
    outline = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()
    if outline > MOST_OUTLINE:
        raise ValueError(f"a polygon's outline is over {MOST_OUTLINE:,} pixels long")
    return _unpacked(frPyObjects([numbers], height, width)[0]["counts"])


def _unpacked(text: bytes) -> Ints:
    """The numbers in COCO's compressed text: letters of 5 bits each, the lowest first, the sixth
    says that another follows; from the fourth number on what it adds to that two before."""
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes & 32 == 0)
    if not len(codes):
        return codes
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else np.zeros(1, np.int64)
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("an annotation's RLE can't be read")
    lengths = ends - starts + 1
    if lengths.max() > LONGEST_RUN:
        raise ValueError("an annotation's RLE has numbers over 30 bits")
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31) << shifts, starts)
    values -= np.where(codes[ends] & 16, np.int64(1) << 5 * lengths, 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
