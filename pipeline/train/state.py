"""A training run half done, on disk: safetensors and JSON, so that a killed run goes on exactly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn, optim

from pipeline.errors import CheckpointError
from pipeline.files import regular, written_whole
from pipeline.models.checkpoint import FOREIGN

STATE = "state.safetensors"


def save_state(
    folder: Path,
    *,
    step: int,
    network: nn.Module,
    average: dict[str, Tensor],
    optimizer: optim.Optimizer,
    more: Mapping[str, Tensor],
) -> None:
    """Write all that training needs to go on after `step` steps, in one file, whole or not at all.

    `more`: tensors by name that are no part of the three. Every random draw is a function of the
    seed and the step, so no generator has a state.
    """
    tensors = {f"network/{key}": value for key, value in network.state_dict().items()}
    tensors |= {f"average/{key}": value for key, value in average.items()}
    tensors |= {f"more/{key}": value for key, value in more.items()}
    moments = optimizer.state_dict()["state"]
    for index, values in moments.items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in values.items()}
    plain = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
    with written_whole(folder / STATE) as partial:
        metadata = {"step": json.dumps(step), "sha256": _digest(plain)}
        save_file(plain, partial, metadata=metadata)


def load_state(
    folder: Path,
    *,
    network: nn.Module,
    average: dict[str, Tensor],
    optimizer: optim.Optimizer,
    more: Mapping[str, Tensor],
) -> int:
    """Put the saved state into all four; returns the steps done, 0 where nothing is saved.

    Raises CheckpointError where the file is cut, or of another network.
    """
    path = folder / STATE
    if not path.exists():
        return 0
    try:
        with safe_open(regular(path), framework="pt") as file:
            step = json.loads(file.metadata()["step"])
            if type(step) is not int or step < 0:
                raise ValueError(f"step = {step!r}")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            if _digest(tensors) != file.metadata().get("sha256"):
                raise ValueError("other bytes than were saved")
        network.load_state_dict(_under("network/", tensors))
        for key, value in _under("average/", tensors).items():
            average[key].copy_(value)
        for key, value in _under("more/", tensors).items():
            more[key].copy_(value)
        _load_moments(optimizer, _under("optimizer/", tensors))
    except (SafetensorError, OSError, *FOREIGN) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: not this run's state ({reason}); delete it") from None
    return step


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors on the CPU and their names."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}


def _load_moments(optimizer: optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split("/")
        moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == weight.shape:
                # As the weight lies in memory (channels last), which fused optimizers rely on.
                values[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
