"""A queue as tasks for Label Studio, and its answers: the JSON that it imports and exports.

The format is that of Label Studio's documentation, "Import pre-annotated data" and "Label Studio
JSON format of annotated tasks". The images travel inside the tasks, as data URIs.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from pipeline.data.corrections import NONE_CHOICE
from pipeline.errors import SourceError

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
