"""Masks that a person drew in Label Studio or a tool for COCO's JSON, as corrections.

All of it is a stranger's: a region is drawn only once its size fits that of its image, and the mask
that comes out goes through the same process with limits as any other (encoded_masks.py).
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.answers.brush import MOST_BYTES, Flags, unpack_brush
from pipeline.data.answers.choices import (
    QUARANTINE,
    SIDES,
    annotations_of,
    image_name,
    value_of,
    without_images,
)
from pipeline.data.answers.corrected_masks import write_mask
from pipeline.data.masks import IGNORED
from pipeline.data.preparation.assign import REASONS, Side
from pipeline.data.preparation.corrections import NONE_CHOICE
from pipeline.data.rows import SIZE, sizes_of
from pipeline.data.shards import iter_shards, read_shard
from pipeline.data.sources.coco import BACKGROUND, coco_lists, is_crowd, is_key, key_finder
from pipeline.data.sources.coco_masks import class_pixels
from pipeline.errors import SourceError
from pipeline.files import parse_json, read_bytes

IGNORE = "ignore"  # a label beside the classes
MOST_SIDE = 2048  # pixels of a picture that goes out
MOST_REGIONS = 1000  # of an image
DIGITS = 20  # of the digest that marks a region's runs: it is nowhere in the file
MOST_PERCENT = 10_000  # that a corner of a polygon may lie outside
NO_REGIONS = ("relation", "textarea", "rating", "number", "datetime", "taxonomy", "pairwise")
RUNS = re.compile(rb'"rle"\s*:\s*\[([\d\s,]*+)\]')  # in Label Studio's JSON: a list of bytes
Size = tuple[int, int]
Mask = NDArray[np.uint8]
Paint = Callable[[Size, Sequence[tuple[int | None, Any]], int], Mask]


class _UnusableError(Exception):
    """What is wrong with the answer to one image."""


@dataclass
class _Answer:
    """What a file says of an image; its names: one of them is its id, or `image_name` of that.

    paint: makes a mask of its height and width, of drawings and their classes (None: ignored), and
    of the class of the rest; size: width and height that the drawings are of; regions: a label and
    its drawing, each.
    """

    names: tuple[str, ...]
    paint: Paint
    size: tuple[Any, Any] = (None, None)
    regions: list[tuple[str, Any]] = field(default_factory=list)
    problem: str | None = None


def read_mask_answers(
    path: Path, prepared: Path, classes: Sequence[str], folder: Path
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Labels of corrections.csv in `folder` by image id, whose masks are written there, "" for none
    of the classes; and (name, reason) of each answer that can't be used.

    path: Label Studio's JSON or COCO's; prepared: the run's folder, which knows the images' own
    sizes. Raises SourceError for anything else.
    """
    try:
        data = read_bytes(path).removeprefix(BOM_UTF8)
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file") from None
    except OSError as error:
        raise SourceError(f"{path}: can't be read ({error.strerror or error})") from None
    of_tool = _label_studio if data.lstrip().startswith(b"[") else _coco
    found = list(of_tool(data, path))
    known = _known(prepared, {name for each in found for name in each.names})
    images = [next((known[n] for n in each.names if n in known), None) for each in found]
    times = Counter(image[0] for image in images if image is not None)
    answers, left_out = dict[str, str](), list[tuple[str, str]]()
    for answer, image in zip(found, images, strict=True):
        try:
            if image is None:
                raise _UnusableError("no training image of this run")
            image_id, size = image
            if isinstance(size, str):
                raise _UnusableError(f"no training image of this run ({size})")
            if times[image_id] > 1:
                raise _UnusableError("listed twice; keep one")
            if any(label == NONE_CHOICE for label, _ in answer.regions):
                answers[image_id] = ""
            else:
                mask = _mask_of(answer, size, classes)
                answers[image_id] = write_mask(mask, classes, folder)
        except _UnusableError as error:
            left_out.append((answer.names[0], str(error)))
    return answers, left_out


def rest_class(classes: Sequence[str]) -> int:
    """The class of what no region covers: the background, IGNORED where there is none."""
    names = [name.lower() for name in classes]
    return names.index(BACKGROUND) if BACKGROUND in names else IGNORED


def _mask_of(answer: _Answer, size: Size, classes: Sequence[str]) -> Mask:
    """The mask of an answer at the size of its image, (H, W)."""
    if answer.problem:
        raise _UnusableError(answer.problem)
    width, height = answer.size
    if not (isinstance(width, int) and isinstance(height, int) and fits((width, height), size)):
        raise _UnusableError(f"{width}x{height}, its image is {size[0]}x{size[1]}")
    if len(answer.regions) > MOST_REGIONS:
        raise _UnusableError(f"over {MOST_REGIONS} regions")
    numbers: dict[str, int | None] = {IGNORE: None}
    numbers |= {name: number for number, name in enumerate(classes)}
    if unknown := sorted({label for label, _ in answer.regions} - numbers.keys()):
        raise _UnusableError(f"label {unknown[0]!r}: no class")
    drawings = [(numbers[label], drawing) for label, drawing in answer.regions]
    try:
        mask = answer.paint((height, width), drawings, rest_class(classes))
    except (ValueError, TypeError) as error:
        raise _UnusableError(str(error)) from None
    if (mask == IGNORED).all():
        raise _UnusableError("all of it is ignored")
    if (width, height) == size:
        return mask
    return np.array(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST), np.uint8)


def fits(size: Size, own: Size) -> bool:
    """Whether a size is the image's own, or a picture's of the same shape."""
    if size == own:
        return True
    (width, height), (whole_width, whole_height) = size, own
    shape = abs(width * whole_height - height * whole_width) <= max(own)
    return shape and min(size) > 0 and max(size) <= MOST_SIDE


def _known(prepared: Path, names: Set[str]) -> dict[str, tuple[str, Size | str]]:
    """The id and the own width and height of the images of these names, or why they are left out;
    a shard's in memory. What a person took out can come back."""
    known: dict[str, tuple[str, Size | str]] = {}
    for row in read_shard(prepared / QUARANTINE).to_pylist():
        image_id, own = row["id"], (row.get("width"), row.get("height"))
        back = row["reason"] == REASONS[Side.EXCLUDED] and all(own)
        for name in {image_id, image_name(image_id)} & names:
            known[name] = image_id, own if back else row["reason"]
    for side in SIDES:
        for table in iter_shards(prepared / side, ["id", *(item.name for item in SIZE)]):
            sizes = sizes_of(table, prepared / side).tolist()
            for image_id, (width, height) in zip(table["id"].to_pylist(), sizes, strict=True):
                for name in {image_id, image_name(image_id)} & names:
                    known[name] = image_id, (width, height)
    return known


def _label_studio(data: bytes, path: Path) -> Iterator[_Answer]:
    """The later annotation of each task that has one."""
    mark, runs = sha256(data).hexdigest()[:DIGITS], dict[str, tuple[int, int]]()

    def marked(match: re.Match[bytes]) -> bytes:
        runs[name := f"{mark} {len(runs)}"] = match.span(1)
        return f'"rle":"{name}"'.encode()

    try:
        plain = RUNS.sub(marked, data)
        tasks = parse_json(without_images(plain))
    except ValueError as error:
        raise SourceError(f"{path}: not JSON ({error})") from None
    answers: dict[str, _Answer] = {}
    for _, name, results in annotations_of(tasks, path):
        answers[name] = _annotation(name, results, partial(_packed, data, runs))
    yield from answers.values()


def _annotation(name: str, results: Sequence[Any], packed: Callable[[str], bytes]) -> _Answer:
    """packed: the bytes of a brush region, by the text in their place."""
    answer = _Answer((name,), _in_order)
    for result in results:
        kind, value = value_of(result, "type"), value_of(result, "value")
        if kind in NO_REGIONS:
            continue
        size = value_of(result, "original_width"), value_of(result, "original_height")
        key = "labels" if isinstance(value, dict) and "labels" in value else str(kind)
        labels = value_of(value, key)
        if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
            answer.problem = "a region without one label"
            continue
        if key == "choices":
            answer.regions.append((labels[0], None))
            continue
        if value_of(result, "image_rotation"):
            answer.problem = "its image is turned; turn it back"
        elif answer.size not in ((None, None), size):
            answer.problem = "regions of several sizes"
        elif isinstance(value.get("rle"), str):
            answer.regions.append((labels[0], partial(_brush_pixels, packed, value["rle"])))
        elif isinstance(value.get("points"), list):
            answer.regions.append((labels[0], partial(_polygon_pixels, value["points"])))
        else:
            answer.problem = f"a region of type {kind!r}; use the brush or a polygon"
        answer.size = size
    if not answer.regions:
        answer.problem = answer.problem or "no region; paint the background where all of it is that"
    return answer


def _in_order(size: Size, drawings: Sequence[tuple[int | None, Any]], rest: int) -> Mask:
    """A later one lies above an earlier one; a drawing says which pixels (H, W) it covers."""
    mask = np.full(size, rest, np.uint8)
    for number, covered in drawings:
        mask[covered(size)] = IGNORED if number is None else number
    return mask


def _packed(data: bytes, runs: Mapping[str, tuple[int, int]], name: str) -> bytes:
    """The bytes of the brush region of this name; runs: where they stand in JSON."""
    if name not in runs:
        raise ValueError("a brush region can't be read")
    start, stop = runs[name]
    if stop - start > 5 * MOST_BYTES:  # "255, " for each
        raise ValueError(f"a brush region of over {MOST_BYTES >> 20} MiB")
    return bytes(json.loads(b"[" + data[start:stop] + b"]"))


def _brush_pixels(packed: Callable[[str], bytes], name: str, size: Size) -> Flags:
    height, width = size
    return unpack_brush(packed(name), width, height)


def _polygon_pixels(points: Sequence[Any], size: Size) -> Flags:
    """points: x and y in percent each."""
    pairs = (each if isinstance(each, list) else [] for each in points)
    if not all([type(number) in (int, float) for number in each] == [True] * 2 for each in pairs):
        raise ValueError("a polygon's points are no pairs of x and y")
    corners = np.array(points, np.float64).reshape(-1, 2)
    if not (np.abs(corners) < MOST_PERCENT).all():
        raise ValueError("a polygon's points are far outside its image")
    pixels = (corners * size[::-1] / 100).ravel().tolist()
    return np.asarray(class_pixels(size, [(1, [pixels])]) == 1)


def _coco(data: bytes, path: Path) -> Iterator[_Answer]:
    """The images of COCO's JSON that have annotations."""
    images, annotations, categories = coco_lists(data, path)
    names: dict[Any, str] = {}
    for each in categories:
        key, name = each.get("id"), each.get("name")
        if not is_key(key) or not isinstance(name, str) or key in names:
            raise SourceError(f"{path}: a category needs a name, and an id that no other has")
        names[key] = name
    answers: dict[Any, _Answer] = {}
    for each in images:
        key, name = each.get("id"), each.get("file_name")
        if not is_key(key) or not isinstance(name, str) or key in answers:
            raise SourceError(f"{path}: an image needs a file_name, and an id that no other has")
        stem = PurePosixPath(name.replace("\\", "/")).stem
        answers[key] = _Answer((name, stem), class_pixels, (each.get("width"), each.get("height")))
    image_of, category_of = key_finder(answers), key_finder(names)
    for each in annotations:
        key, category = image_of(each.get("image_id")), category_of(each.get("category_id"))
        if key is None:
            image = each.get("image_id")
            raise SourceError(f"{path}: an annotation of image {image!r}, which is none of its own")
        if category is None:
            answers[key].problem = "an annotation of no category that the file has"
            continue
        label, drawing = names[category], each.get("segmentation")
        label = IGNORE if is_crowd(each) and label != NONE_CHOICE else label
        answers[key].regions.append((label, drawing))
    yield from (answer for answer in answers.values() if answer.regions or answer.problem)
