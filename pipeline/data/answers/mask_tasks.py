"""What goes out to Label Studio and tools for COCO's JSON: images, and masks to correct."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from pipeline.data.answers.brush import pack_brush
from pipeline.data.answers.choices import CHOICE, DATA, IMAGE, image_name, task_data
from pipeline.data.answers.mask_answers import IGNORE, rest_class
from pipeline.data.class_maps import palette
from pipeline.data.preparation.corrections import NONE_CHOICE
from pipeline.files import write_json

BRUSH, POLYGON = "brush", "polygon"  # Label Studio's tags
ANNOTATIONS = "annotations.json"  # COCO's
GREY = "#808080"


@dataclass(frozen=True)
class MaskTask:
    """An image to correct: its id, its picture, the end of that file's name ("jpeg", "png"), and a
    mask (H, W) of that size with its mean confidence; None before any model."""

    id: str
    picture: bytes
    kind: str
    size: tuple[int, int]
    mask: NDArray[np.uint8] | None = None
    confidence: float = 0


def mask_config(classes: Sequence[str]) -> str:
    """The labelling interface, as Settings, Labeling Interface, Code takes it: XML."""
    view = ElementTree.Element("View")
    image = {"name": IMAGE, "value": f"${IMAGE}", "zoom": "true", "zoomControl": "true"}
    ElementTree.SubElement(view, "Image", image)
    colours = ["#" + bytes(colour).hex() for colour in palette(len(classes)).tolist()]
    labels = {IGNORE: GREY} | dict(zip(classes, colours, strict=True))
    for tag, name in (("BrushLabels", BRUSH), ("PolygonLabels", POLYGON)):
        regions = ElementTree.SubElement(view, tag, name=name, toName=IMAGE)
        for label in (*classes, *({IGNORE} - {*classes})):
            ElementTree.SubElement(regions, "Label", value=label, background=labels[label])
    choices = ElementTree.SubElement(view, "Choices", name=CHOICE, toName=IMAGE)
    ElementTree.SubElement(choices, "Choice", value=NONE_CHOICE)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def label_studio_task(task: MaskTask, classes: Sequence[str], model: str) -> dict[str, Any]:
    """A task of Label Studio; the mask of `model` is its prediction, a brush region each class."""
    value = task_data(task.id, task.picture, task.kind)
    if task.mask is not None:
        width, height = task.size
        form = {"from_name": BRUSH, "to_name": IMAGE, "type": "brushlabels", "image_rotation": 0}
        form |= {"original_width": width, "original_height": height}
        result = [
            form
            | {"id": f"{image_name(task.id)[:8]}-{number}"}
            | {"value": {"format": "rle", "rle": pack_brush(own), "brushlabels": [classes[number]]}}
            for number, own in _regions(task.mask, classes)
        ]
        value["predictions"] = [
            {"model_version": model, "score": task.confidence, "result": result}
        ]
    return value


def write_coco(folder: Path, tasks: Iterable[MaskTask], classes: Sequence[str]) -> None:
    """Write images and COCO's JSON, an annotation with RLE each class of an image's mask."""
    from pycocotools.mask import area, encode, toBbox

    (folder / DATA).mkdir(parents=True)
    names = list(dict.fromkeys([*classes, IGNORE, NONE_CHOICE]))
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    for number, task in enumerate(tasks, start=1):
        name, (width, height) = f"{image_name(task.id)}.{task.kind}", task.size
        (folder / DATA / name).write_bytes(task.picture)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for label, own in [] if task.mask is None else _regions(task.mask, classes):
            runs = encode(np.asfortranarray(own, np.uint8))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "segmentation": runs | {"counts": runs["counts"].decode()},
                    "area": int(area(runs)),
                    "bbox": toBbox(runs).tolist(),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": place, "name": name} for place, name in enumerate(names, start=1)]
    value = {"images": images, "annotations": annotations, "categories": categories}
    write_json(folder / ANNOTATIONS, value)


def _regions(
    mask: NDArray[np.uint8], classes: Sequence[str]
) -> list[tuple[int, NDArray[np.bool_]]]:
    """Each class that a mask shows with its pixels, without the one that is not drawn."""
    rest = rest_class(classes)
    shown = np.flatnonzero(np.bincount(mask.ravel(), minlength=len(classes))[: len(classes)])
    return [(number, mask == number) for number in shown.tolist() if number != rest]
