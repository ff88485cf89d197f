"""Models on disk: weights as safetensors, everything else as JSON; no pickle."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.errors import CheckpointError
from pipeline.files import file_digest, read_json, replace_folder, value_digest, write_json
from pipeline.models.build import build_network

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


@dataclass(frozen=True)
class Checkpoint:
    """A network in evaluation mode and its spec."""

    network: nn.Module
    spec: ModelSpec


def network_of(spec: ModelSpec, seed: int = 0, *, auxiliary: bool = False) -> nn.Module:
    """The spec's network with weights drawn from `seed`; `auxiliary`: as it is trained."""
    return build_network(
        num_classes=len(spec.classes),
        channels=spec.channels,
        image_size=spec.image_size,
        seed=seed,
        auxiliary=auxiliary,
        **spec.network,
    )


def save_checkpoint(folder: Path, weights: dict[str, Tensor], spec: ModelSpec) -> None:
    """Write weights and spec to `folder`, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        finished = Path(scratch) / "model"
        finished.mkdir()
        plain = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
        save_file(plain, finished / WEIGHTS)
        write_json(finished / SPEC, asdict(spec))
        replace_folder(finished, folder)


def read_spec(folder: Path) -> ModelSpec:
    """The spec in `folder`; raises CheckpointError where it is missing or wrong."""
    path = folder / SPEC
    try:
        return ModelSpec(**read_json(path))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; is this a model folder?") from None
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not a model's description ({error})") from None


def load_checkpoint(folder: Path) -> Checkpoint:
    """The model in `folder`, in evaluation mode on the CPU.

    Raises CheckpointError where a file is missing, cut, or does not fit the network.
    """
    spec = read_spec(folder)
    path = folder / WEIGHTS
    try:
        network = network_of(spec)
        network.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not readable as safetensors ({error})") from None
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: does not fit {folder / SPEC} ({reason})") from None
    return Checkpoint(network.eval(), spec)


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
