"""What describes a model beside its weights, and what names it; read without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.errors import CheckpointError
from pipeline.files import file_digest, read_json, value_digest

WEIGHTS = "model.safetensors"
SPEC = "model.json"


@dataclass(frozen=True)
class ModelSpec:
    """What is needed beside the weights to use a model.

    `network`: the arguments of build_network by name; `mean`, `std`: per channel, of images in
    [0, 1]; `temperature`: divides the logits (calibration); `teacher`: the digest of the model
    that labelled its images, None for generation 0.
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
    notes: dict[str, Any] = field(default_factory=dict)


def read_spec(folder: Path) -> ModelSpec:
    """The spec in `folder`; raises CheckpointError where it is missing or wrong."""
    path = folder / SPEC
    try:
        return ModelSpec(**read_json(path))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; is this a model folder?") from None
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not a model's description ({error})") from None


def model_digest(folder: Path) -> str:
    """One digest of the weights and of the spec, which names the model.

    The spec holds the digest of the model's teacher, so this one changes with any ancestor.
    """
    return value_digest({name: file_digest(folder / name) for name in (WEIGHTS, SPEC)})


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
