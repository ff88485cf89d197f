"""A queue as a data set that FiftyOne reads, and its answers: FiftyOneImageClassificationDataset.

The format is that of FiftyOne's user guide: a folder `data` of images and a `labels.json` of
`classes` and `labels`, by the images' names without their ending, null where there is none. What
a model thinks is in a file of its own, as a guess that nobody looked at is no label.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.corrections import NONE_CHOICE
from pipeline.errors import SourceError
from pipeline.files import write_json

LABELS, PREDICTIONS, DATA = "labels.json", "predictions.json", "data"
DIGITS = 20  # of the digest that names an image's file


def image_name(image_id: str) -> str:
    """The name of an image's file without its ending: ids may hold what no file name can."""
    return hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def write_dataset(
    folder: Path,
    images: Iterable[tuple[str, bytes]],
    guesses: Mapping[str, tuple[str, float]],
    classes: Sequence[str],
) -> None:
    """Write ids and PNGs as a data set to label; guesses: class and probability by id."""
    (folder / DATA).mkdir(parents=True)
    names: dict[str, str] = {}
    for image_id, png in images:
        names[image_id] = image_name(image_id)
        (folder / DATA / f"{names[image_id]}.png").write_bytes(png)
    names_of_all = list(dict.fromkeys([*classes, NONE_CHOICE]))
    numbers = {name: number for number, name in enumerate(classes)}
    seen = {
        names[image_id]: {"label": numbers[label], "confidence": probability}
        for image_id, (label, probability) in guesses.items()
    }
    labels = {"classes": names_of_all, "labels": dict.fromkeys(names.values())}
    write_json(folder / LABELS, labels)
    if seen:
        write_json(folder / PREDICTIONS, {"classes": names_of_all, "labels": seen})


def fiftyone_answers(value: dict[str, Any], where: str) -> dict[str, str]:
    """The label by `image_name` of a labels.json; unlabelled images have none.

    Raises SourceError, which `where` (the file) opens, for what is no single label.
    """
    classes, labels = value.get("classes"), value.get("labels")
    if not isinstance(labels, dict) or not (classes is None or isinstance(classes, list)):
        raise SourceError(f"{where}: not a labels.json of a FiftyOneImageClassificationDataset")
    found = {
        _stem(key): _label(target, classes, f"{where}: {key}") for key, target in labels.items()
    }
    return {name: label for name, label in found.items() if label is not None}


def _stem(key: str) -> str:
    """The name of an image's file, of a key that may be a path with an ending."""
    return re.split(r"[/\\]", key)[-1].removesuffix(".png")


def _label(target: Any, classes: list[Any] | None, place: str) -> str | None:
    """The label of a target: a name, a number of `classes`, or either with a confidence."""
    if isinstance(target, dict):
        target = target.get("label")
    if target is None or isinstance(target, str):
        return target
    if type(target) is int and classes is not None and 0 <= target < len(classes):
        name = classes[target]
        if isinstance(name, str):
            return name
    raise SourceError(f"{place}: {target!r} is no single label; one image has one class")
