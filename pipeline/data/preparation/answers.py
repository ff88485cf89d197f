"""Answers of Label Studio and FiftyOne: what goes out to them, what comes back as corrections."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pipeline.data.preparation.corrections import (
    HEADER,
    NONE_CHOICE,
    NONE_OF_THEM,
    read_corrections,
)
from pipeline.data.shards import iter_shards, read_shard
from pipeline.errors import SourceError
from pipeline.files import read_json, write_json

SIDES = ("unlabeled", "labeled", "validation")
QUARANTINE = "quarantine.parquet"
NAMED = 12


def read_answers(path: Path, prepared: Path, classes: Sequence[str]) -> dict[str, str]:
    """The class by image id, "" for none of them, of what a labelling tool exported.

    path: Label Studio's JSON, or FiftyOne's labels.json or the folder that holds it; prepared: the
    run's folder, whose ids FiftyOne's names stand for. Raises SourceError for anything else.
    """
    file = path / LABELS if path.is_dir() else path
    try:
        value = read_json(file)
    except FileNotFoundError:
        raise SourceError(f"{file}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{file}: not JSON ({error})") from None
    if isinstance(value, list):
        answers = label_studio_answers(value, str(file))
    elif isinstance(value, dict):
        by_name = fiftyone_answers(value, str(file))
        ids = _ids_of(prepared, by_name.keys(), file)
        answers = {ids[name]: label for name, label in by_name.items()}
    else:
        raise SourceError(f"{file}: neither Label Studio's JSON nor FiftyOne's labels.json")
    return {name: _class(label, name, classes, file) for name, label in answers.items()}


def with_answers(
    path: Path, answers: Mapping[str, str], classes: Sequence[str]
) -> tuple[str, list[str]]:
    """The text of the corrections in `path` with the answers behind them, and the ids it is new of.

    What `path` says already is not said again. Raises SourceError where it makes no sense.
    """
    text, known = ",".join(HEADER) + "\n", {}
    if path.exists():
        known = read_corrections(path, classes)
        text = path.read_text(encoding="utf-8-sig")
    numbers = {name: number for number, name in enumerate(classes)} | {"": NONE_OF_THEM}
    new = [name for name, label in answers.items() if known.get(name) != numbers[label]]
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows((name, answers[name]) for name in new)
    between = "" if text.endswith("\n") else "\n"
    return text + between + lines.getvalue() if new else text, new


def _class(label: str, image_id: str, classes: Sequence[str], file: Path) -> str:
    """The class that a tool's label means; "" for none of them."""
    if label in classes:
        return label
    if label == NONE_CHOICE:
        return ""
    some = ", ".join(classes[:NAMED]) + (", …" if len(classes) > NAMED else "")
    raise SourceError(
        f"{file}: image {image_id!r} is labelled {label!r}: no class; there are {some}, and "
        f"{NONE_CHOICE!r}"
    )


def _ids_of(prepared: Path, names: Set[str], file: Path) -> dict[str, str]:
    """The image id that each of FiftyOne's names stands for; one shard's ids in memory."""
    found: dict[str, str] = {}
    tables = [iter_shards(prepared / side, ["id"]) for side in SIDES]
    tables.append(iter([read_shard(prepared / QUARANTINE, ["id"])]))
    for part in tables:
        for table in part:
            stands_for = {image_name(image_id): image_id for image_id in table["id"].to_pylist()}
            found |= {name: stands_for[name] for name in names & stands_for.keys()}
    if unknown := sorted(set(names) - found.keys()):
        raise SourceError(
            f"{file}: {unknown[0]}: no training image of this run has a file of that name; keep "
            "the names that stages.pick gave the images"
        )
    return found


CHOICE, IMAGE = "choice", "image"  # the names of the two tags
IMAGE_ID = "image_id"


def labeling_config(classes: Sequence[str]) -> str:
    """The labelling interface, as Settings, Labeling Interface, Code takes it: XML."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}")
    choices = ElementTree.SubElement(view, "Choices", name=CHOICE, toName=IMAGE, choice="single")
    for name in dict.fromkeys([*classes, NONE_CHOICE]):
        ElementTree.SubElement(choices, "Choice", value=name)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def task(image_id: str, png: bytes, guess: tuple[str, float] | None, model: str) -> dict[str, Any]:
    """One image to label; guess: a class and its probability, where `model` has one."""
    uri = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    value: dict[str, Any] = {"data": {IMAGE: uri, IMAGE_ID: image_id}}
    if guess is not None:
        chosen = {
            "from_name": CHOICE,
            "to_name": IMAGE,
            "type": "choices",
            "value": {"choices": [guess[0]]},
        }
        value["predictions"] = [{"model_version": model, "score": guess[1], "result": [chosen]}]
    return value


def label_studio_answers(tasks: list[Any], where: str) -> dict[str, str]:
    """The choice by image id of an export as JSON; skipped and open tasks have none.

    Of two annotations of one image the later counts. Raises SourceError, which `where` (the file)
    opens, for tasks of another project or format.
    """
    found: dict[str, str] = {}
    for number, item in enumerate(tasks, start=1):
        place = f"{where}: task {number}"
        data = item.get("data") if isinstance(item, dict) else None
        name = data.get(IMAGE_ID) if isinstance(data, dict) else None
        annotations = item.get("annotations") if isinstance(item, dict) else None
        if not isinstance(name, str) or not isinstance(annotations, list):
            raise SourceError(
                f"{place}: must have data.{IMAGE_ID} and annotations, as in an export of the "
                "tasks of stages.pick as JSON (not JSON-MIN)"
            )
        for annotation in sorted(annotations, key=_time):
            choice = _choice(annotation, place)
            if choice is not None:
                found[name] = choice
    return found


def _time(annotation: Any) -> str:
    """When an annotation was last changed, in a form that sorts; "" where it does not say."""
    value = annotation.get("updated_at") if isinstance(annotation, dict) else None
    return value if isinstance(value, str) else ""


def _choice(annotation: Any, place: str) -> str | None:
    """The one choice of an annotation; None where it was skipped or has none."""
    results = annotation.get("result") if isinstance(annotation, dict) else None
    if not isinstance(results, list):
        raise SourceError(f"{place}: an annotation without a result; export as JSON")
    if annotation.get("was_cancelled"):
        return None
    chosen: list[Any] = []
    for result in results:
        value = result.get("value") if isinstance(result, dict) else None
        if isinstance(value, dict) and isinstance(value.get("choices"), list):
            chosen += value["choices"]
    if len(chosen) > 1 or not all(isinstance(name, str) for name in chosen):
        raise SourceError(f"{place}: has the choices {chosen}; one image has one class")
    return chosen[0] if chosen else None


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
