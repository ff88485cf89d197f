"""Answers of Label Studio and FiftyOne: what goes out to them, what comes back as corrections."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pipeline.data.encoding import format_of
from pipeline.data.preparation.corrections import (
    HEADER,
    NONE_CHOICE,
    NONE_OF_THEM,
    ReadLabel,
    read_corrections,
)
from pipeline.data.shards import iter_shards, read_shard
from pipeline.errors import SourceError
from pipeline.files import MOST_JSON, csv_rows, parse_json, read_bytes, read_text, write_json

SIDES = ("unlabeled", "labeled", "validation")
QUARANTINE = "quarantine.parquet"
CLASSES_SHOWN = 12
CHOICE, IMAGE, IMAGE_ID = "choice", "image", "image_id"  # Label Studio's two tags, and a task's id
LABELS, PREDICTIONS, DATA = "labels.json", "predictions.json", "data"  # FiftyOne's
REGIONS = ("brushlabels", "polygonlabels", "brush", "polygon")
IMAGES = re.compile(rb'"data:image/[^"\\]*"')  # Label Studio sends them back
DIGITS = 20  # of the digest that names an image's file


def read_answers(path: Path, prepared: Path, classes: Sequence[str]) -> dict[str, str]:
    """The class by image id, "" for none of them, of what a labelling tool exported.

    path: Label Studio's JSON, or FiftyOne's labels.json or the folder that holds it; prepared: the
    run's folder, whose ids FiftyOne's names stand for. Raises SourceError for anything else.
    """
    file = path / LABELS if path.is_dir() else path
    try:
        value = parse_json(without_images(read_bytes(file).removeprefix(BOM_UTF8)))
    except FileNotFoundError:
        raise SourceError(f"{file}: no such file") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{file}: not JSON ({error})") from None
    if isinstance(value, list):
        answers = _label_studio_answers(value, str(file))
    elif isinstance(value, dict):
        by_name = _fiftyone_answers(value, str(file))
        ids = _ids_of(prepared, by_name.keys(), file)
        answers = {ids[name]: label for name, label in by_name.items()}
    else:
        raise SourceError(f"{file}: neither Label Studio's JSON nor FiftyOne's labels.json")
    for name, label in answers.items():
        if label not in (*classes, NONE_CHOICE):
            cut = ", …" if len(classes) > CLASSES_SHOWN else ""
            raise SourceError(
                f"{file}: image {name!r} is labelled {label!r}: no class; there are "
                f"{', '.join(classes[:CLASSES_SHOWN])}{cut}, and {NONE_CHOICE!r}"
            )
    return {name: label if label in classes else "" for name, label in answers.items()}


def with_answers(
    path: Path, answers: Mapping[str, str], read_label: ReadLabel
) -> tuple[str, list[str]]:
    """The text of the corrections in `path` with the answers behind them, and the ids it is new of.

    What `path` says already is not said again. Raises SourceError where it makes no sense.
    """
    text, known = ",".join(HEADER) + "\n", dict[str, Any]()
    if path.exists():
        known = read_corrections(path, read_label)
        text = read_text(path, "utf-8-sig")
    given = {name: read_label(label) if label else NONE_OF_THEM for name, label in answers.items()}
    new = [name for name, answer in given.items() if known.get(name) != answer]
    lines = io.StringIO()
    csv_rows(lines, ((name, answers[name]) for name in new))
    between = "" if text.endswith("\n") else "\n"
    return text + between + lines.getvalue() if new else text, new


def _ids_of(prepared: Path, names: Set[str], file: Path) -> dict[str, str]:
    """The image id that each of FiftyOne's names stands for; one shard's ids in memory."""
    by_name: dict[str, str] = {}
    shards = (table for side in SIDES for table in iter_shards(prepared / side, ["id"]))
    for table in chain(shards, [read_shard(prepared / QUARANTINE, ["id"])]):
        ids = {image_name(image_id): image_id for image_id in table["id"].to_pylist()}
        by_name |= {name: ids[name] for name in names & ids.keys()}
    if unknown := sorted(names - by_name.keys()):
        raise SourceError(
            f"{file}: {unknown[0]}: no training image of this run has a file of that name; keep "
            "the names that selftrain pick gave the images"
        )
    return by_name


def labeling_config(classes: Sequence[str]) -> str:
    """The labelling interface, as Settings, Labeling Interface, Code takes it: XML."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}")
    choices = ElementTree.SubElement(view, "Choices", name=CHOICE, toName=IMAGE, choice="single")
    for name in dict.fromkeys([*classes, NONE_CHOICE]):
        ElementTree.SubElement(choices, "Choice", value=name)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def task(
    image_id: str, image: bytes, guess: tuple[str, float] | None, model: str
) -> dict[str, Any]:
    """One stored image to label; guess: a class and its probability, where `model` has one."""
    value: dict[str, Any] = task_data(image_id, image, format_of(image))
    if guess is not None:
        label, probability = guess
        choice = {"from_name": CHOICE, "to_name": IMAGE, "type": "choices"}
        result = [choice | {"value": {"choices": [label]}}]
        value["predictions"] = [{"model_version": model, "score": probability, "result": result}]
    return value


def task_data(image_id: str, image: bytes, kind: str) -> dict[str, Any]:
    """What a task of Label Studio says of its image; kind: "png" or "jpeg"."""
    uri = f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
    return {"data": {IMAGE: uri, IMAGE_ID: image_id}}


def without_images(data: bytes) -> bytes:
    """JSON with empty texts for images; raises ValueError where what is left is too large."""
    left, at, end = bytearray(), 0, len(data)
    for image in chain(IMAGES.finditer(data), [None]):
        start = image.start() if image else end
        if len(left) + start - at > MOST_JSON:
            raise ValueError(f"over {MOST_JSON >> 20} MiB beside its images; export fewer tasks")
        left += data[at:start] + b'""' * (image is not None)
        at = image.end() if image else end
    return bytes(left)


def _label_studio_answers(tasks: list[Any], where: str) -> dict[str, str]:
    """The choice by image id of an export as JSON; skipped and open tasks have none.

    Of two annotations of one image the later counts. Raises SourceError, which `where` (the file)
    opens, for tasks of another project or format.
    """
    answers: dict[str, str] = {}
    kinds: dict[str, None] = {}
    for place, name, results in annotations_of(tasks, where):
        if (choice := _choice(results, place)) is not None:
            answers[name] = choice
        kinds |= {str(value_of(result, "type")): None for result in results}
    if not answers and (regions := [kind for kind in kinds if kind in REGIONS]):
        raise SourceError(
            f"{where}: has regions of {regions[0]!r}, which task: segmentation reads; here an "
            "image has one class"
        )
    return answers


def annotations_of(tasks: Iterable[Any], where: object) -> Iterator[tuple[str, str, list[Any]]]:
    """Of each annotation that was not skipped its place in `where`, its image's id and its results;
    of those of one image the later comes later.

    Raises SourceError for tasks of another project or format.
    """
    for number, item in enumerate(tasks, start=1):
        place = f"{where}: task {number}"
        name, annotations = (
            value_of(value_of(item, "data"), IMAGE_ID),
            value_of(item, "annotations"),
        )
        if not isinstance(name, str) or not isinstance(annotations, list):
            raise SourceError(
                f"{place}: must have data.{IMAGE_ID} and annotations, as in an export of the "
                "tasks of selftrain pick as JSON (not JSON-MIN)"
            )
        for each in sorted(annotations, key=lambda each: str(value_of(each, "updated_at") or "")):
            results = value_of(each, "result")
            if not isinstance(results, list):
                raise SourceError(f"{place}: an annotation without a result; export as JSON")
            if not each.get("was_cancelled"):
                yield place, name, results


def value_of(value: Any, key: str) -> Any:
    """What a JSON object holds under `key`; None where it is none."""
    return value.get(key) if isinstance(value, dict) else None


def _choice(results: Sequence[Any], place: str) -> str | None:
    """The one choice of an annotation; None where it has none."""
    lists = [value_of(value_of(result, "value"), "choices") for result in results]
    choices = [name for names in lists if isinstance(names, list) for name in names]
    if len(choices) > 1 or not all(isinstance(name, str) for name in choices):
        raise SourceError(f"{place}: has the choices {choices}; one image has one class")
    return choices[0] if choices else None


def image_name(image_id: str) -> str:
    """The name of an image's file without its ending: ids may hold what no file name can."""
    return hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def write_dataset(
    folder: Path,
    images: Iterable[tuple[str, bytes]],
    guesses: Mapping[str, tuple[str, float]],
    classes: Sequence[str],
) -> None:
    """Write ids and stored images as a data set to label; guesses: class and probability by id."""
    (folder / DATA).mkdir(parents=True)
    names: dict[str, str] = {}
    for image_id, image in images:
        names[image_id] = image_name(image_id)
        (folder / DATA / f"{names[image_id]}.{format_of(image)}").write_bytes(image)
    choices = list(dict.fromkeys([*classes, NONE_CHOICE]))
    write_json(folder / LABELS, {"classes": choices, "labels": dict.fromkeys(names.values())})
    if guesses:
        predictions = {
            names[image_id]: {"label": choices.index(label), "confidence": probability}
            for image_id, (label, probability) in guesses.items()
        }
        write_json(folder / PREDICTIONS, {"classes": choices, "labels": predictions})


def _fiftyone_answers(value: dict[str, Any], where: str) -> dict[str, str]:
    """The label by `image_name` of a labels.json; unlabelled images have none.

    A target is a name, a number of `classes`, or either with a confidence. Raises SourceError,
    which `where` (the file) opens, for what is no single label.
    """
    classes, labels = value.get("classes"), value.get("labels")
    if not isinstance(labels, dict) or not (classes is None or isinstance(classes, list)):
        raise SourceError(f"{where}: not a labels.json of a FiftyOneImageClassificationDataset")
    answers: dict[str, str] = {}
    for path, target in labels.items():
        label = target.get("label") if isinstance(target, dict) else target
        if type(label) is int and classes and 0 <= label < len(classes):
            label = classes[label]
        if isinstance(label, str):
            name = re.split(r"[/\\]", path)[-1]
            answers[name.removesuffix(".png").removesuffix(".jpeg")] = label
        elif label is not None:
            raise SourceError(
                f"{where}: {path}: {label!r} is no single label; one image has one class"
            )
    return answers
