"""What describes a model beside its weights, and what names it; read without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import CheckpointError
from pipeline.files import file_digest, read_json, value_digest
from pipeline.params.errors import one_line
from pipeline.params.network import NetworkParams

WEIGHTS = "model.safetensors"
SPEC = "model.json"
LARGEST = 1e6  # of a mean, a deviation or a temperature; NaN is not under it


@dataclass(frozen=True)
class ModelSpec:
    """What is needed beside the weights to use a model.

    `network`: the arguments of build_network by name; `mean`, `std`: per channel, of images in
    [0, 1]; `temperature`: divides the logits (calibration); `teacher`: the digest of the model
    that labelled its images, None for generation 0; `bfloat16_agrees`: whether the model was as
    accurate in bfloat16 on its validation images, False where that was not tried; `body`: the
    digest of the frozen body whose stored features its classifier reads, None for other networks;
    `bits`: those in use of images of 16 bits.
    """

    network: dict[str, Any]
    classes: list[str]
    image_size: int
    channels: int
    mean: list[float]
    std: list[float]
    generation: str
    temperature: float = 1.0
    teacher: str | None = None
    bfloat16_agrees: bool = False
    body: str | None = None
    bits: int = 16
    notes: dict[str, Any] = field(default_factory=dict)


def read_spec(folder: Path) -> ModelSpec:
    """The spec in `folder`; raises CheckpointError where it is missing or wrong."""
    path = folder / SPEC
    try:
        spec = ModelSpec(**read_json(path))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; is this a model folder?") from None
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a model's description ({error})") from None
    if (problem := _problem(spec)) is not None:
        raise CheckpointError(f"{path}: {problem}; train the model anew, or take it whole")
    return spec


def _problem(spec: ModelSpec) -> str | None:
    """What in a spec is not as training writes it, None where all is."""
    for name, (fits, wanted) in FIELDS.items():
        if not fits(value := getattr(spec, name)):
            return f"{name} = {str(value)[:80]!r}: must be {wanted}"
    if not len(spec.mean) == len(spec.std) == spec.channels:
        return f"mean and std need {spec.channels} numbers each"
    try:
        NetworkParams.model_validate(spec.network)
    except ValidationError as error:
        return one_line(error, NetworkParams, "network")
    return None


def _is_names(value: Any) -> bool:
    known = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return known and len(set(value)) == len(value) > 0


def _is_numbers(value: Any, *, positive: bool = False) -> bool:
    numbers = isinstance(value, list) and all(type(item) in (int, float) for item in value)
    return numbers and all(abs(item) < LARGEST and (item > 0 or not positive) for item in value)


FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "network": (lambda value: isinstance(value, dict) and "name" in value, "a mapping with name"),
    "classes": (_is_names, "different names"),
    "image_size": (lambda value: type(value) is int and 1 <= value <= 1024, "1 to 1024"),
    "channels": (lambda value: type(value) is int and value in (1, 3), "1 or 3"),
    "mean": (_is_numbers, "numbers"),
    "std": (partial(_is_numbers, positive=True), "numbers over 0"),
    "generation": (lambda value: isinstance(value, str), "text"),
    "temperature": (lambda value: _is_numbers([value], positive=True), "a number over 0"),
    "teacher": (lambda value: value is None or isinstance(value, str), "text or null"),
    "bfloat16_agrees": (lambda value: isinstance(value, bool), "true or false"),
    "body": (lambda value: value is None or isinstance(value, str), "text or null"),
    "bits": (lambda value: type(value) is int and 8 <= value <= 16, "8 to 16"),
    "notes": (lambda value: isinstance(value, dict), "a mapping"),
}


def model_digest(folder: Path) -> str:
    """One digest of the weights and of the spec, which names the model.

    The spec holds the digest of the model's teacher, so this one changes with any ancestor.
    """
    try:
        return value_digest({name: file_digest(folder / name) for name in (WEIGHTS, SPEC)})
    except OSError as error:
        raise CheckpointError(
            f"{error.filename}: can't be read ({error.strerror}); run dvc repro to train it"
        ) from None


def teacher_chain(folders: Sequence[Path]) -> dict[str, str]:
    """The digests of generations 0, 1, … in these folders, by folder name, each checked.

    Raises CheckpointError where one is not the model that taught the next.
    """
    digests = {folder.name: model_digest(folder) for folder in folders}
    for teacher, student in pairwise(folders):
        if read_spec(student).teacher != digests[teacher.name]:
            raise CheckpointError(
                f"{teacher}: not the model that taught {student}; run dvc repro to train what "
                "has changed"
            )
    return digests
