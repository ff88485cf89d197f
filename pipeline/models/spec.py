"""What describes a model beside its weights, and what names it; read without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, FailFast, Field, TypeAdapter, ValidationError

from pipeline.data.predictions import MOST_CLASSES
from pipeline.errors import CheckpointError
from pipeline.files import file_digest, value_digest
from pipeline.params.errors import one_line, read_typed
from pipeline.params.network import NetworkParams
from pipeline.params.sections import TaskName

WEIGHTS = "model.safetensors"
SPEC = "model.json"
MOST_BYTES = 4 << 20  # of a model.json: of so many classes, in 40 letters each
Number = Annotated[float, Field(gt=-1e6, lt=1e6)]
Deviation = Annotated[float, Field(gt=1e-6, lt=1e6)]
Temperature = Annotated[float, Field(ge=0.001, le=1000)]  # fitted between 0.05 and 20


@dataclass(frozen=True)
class ModelSpec:
    """What is needed beside the weights to use a model.

    `network`: the arguments of build_network by name; `mean`, `std`: per channel, of images in
    [0, 1]; `temperature`: divides the logits (calibration); `teacher`: the digest of the model
    that labelled its images, None for generation 0; `bfloat16_agrees`: whether the model was as
    accurate in bfloat16 on its validation images, False where that was not tried; `body`: the
    digest of the frozen body whose stored features its classifier reads, None for other networks;
    `bits`: those in use of images of 16 bits; `task`: what it says of an image; `weights`: the
    SHA-256 of the weights' file, which is written with it; None in memory, and in the files of
    earlier versions.
    """

    network: Annotated[dict[str, Any], Field(max_length=32)]
    classes: Annotated[list[str], Field(min_length=1, max_length=MOST_CLASSES), FailFast()]
    image_size: Annotated[int, Field(ge=1, le=1024)]
    channels: int
    mean: Annotated[list[Number], Field(max_length=3), FailFast()]
    std: Annotated[list[Deviation], Field(max_length=3), FailFast()]
    generation: str
    temperature: Temperature = 1.0
    teacher: str | None = None
    bfloat16_agrees: bool = False
    body: str | None = None
    bits: Annotated[int, Field(ge=8, le=16)] = 16
    task: TaskName = "classification"
    notes: dict[str, Any] = field(default_factory=dict)
    weights: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = field(
        default=None, compare=False
    )
    __pydantic_config__: ClassVar = ConfigDict(strict=True, extra="forbid")


_FROM_JSON = TypeAdapter(ModelSpec)


def read_spec(folder: Path) -> ModelSpec:
    """The spec in `folder`; raises CheckpointError where it is missing or wrong."""
    path = folder / SPEC
    try:
        spec = read_typed(path, _FROM_JSON, MOST_BYTES)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such file; a model folder holds it, as models/0 after selftrain run, or "
            "what selftrain export wrote"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read ({error})") from None
    except ValueError as error:
        problem: str | None = str(error)
    else:
        problem = _problem(spec)
    if problem is not None:
        raise CheckpointError(f"{path}: {problem}; train the model anew, or take it whole")
    return spec


def _problem(spec: ModelSpec) -> str | None:
    """What in a spec is not as training writes it, None where all is."""
    if len(set(spec.classes)) != len(spec.classes):
        return "classes: must be different names"
    if spec.channels not in (1, 3):
        return f"channels = {spec.channels}: must be 1 or 3"
    if not len(spec.mean) == len(spec.std) == spec.channels:
        return f"mean and std need {spec.channels} numbers each"
    if "name" not in spec.network:
        return "network: needs a name"
    try:
        NetworkParams.model_validate(spec.network)
    except ValidationError as error:
        return one_line(error, NetworkParams, "network")
    return None


def model_digest(folder: Path) -> str:
    """One digest of the weights and of the spec, which names the model.

    The spec holds the digest of the model's teacher, so this one changes with any ancestor.
    """
    try:
        return value_digest({name: file_digest(folder / name) for name in (WEIGHTS, SPEC)})
    except OSError as error:
        raise CheckpointError(
            f"{error.filename}: can't be read ({error.strerror}); selftrain run trains it"
        ) from None


def teacher_chain(folders: Sequence[Path]) -> dict[str, str]:
    """The digests of generations 0, 1, … in these folders, by folder name, each checked.

    Raises CheckpointError where one is not the model that taught the next.
    """
    digests = {folder.name: model_digest(folder) for folder in folders}
    for teacher, student in pairwise(folders):
        if read_spec(student).teacher != digests[teacher.name]:
            raise CheckpointError(
                f"{teacher}: not the model that taught {student}; selftrain run trains what "
                "has changed"
            )
    return digests
