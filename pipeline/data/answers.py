"""Turn the answers of a labelling tool into corrections.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from pipeline.data.corrections import HEADER, NONE_CHOICE, NONE_OF_THEM, read_corrections
from pipeline.data.fiftyone import LABELS, fiftyone_answers, image_name
from pipeline.data.label_studio import label_studio_answers
from pipeline.data.shards import iter_shards, read_shard
from pipeline.errors import SourceError
from pipeline.files import read_json

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
