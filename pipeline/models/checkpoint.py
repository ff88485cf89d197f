"""Models on disk: weights as safetensors, everything else as JSON; no pickle."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.errors import CheckpointError
from pipeline.files import folder_written_whole, regular, write_json
from pipeline.models.build import build_network
from pipeline.models.networks import depth_and_width
from pipeline.models.spec import SPEC, WEIGHTS, ModelSpec, read_spec

FOREIGN = (RuntimeError, TypeError, ValueError, LookupError, ArithmeticError, MemoryError)


@dataclass(frozen=True)
class Checkpoint:
    """A network in evaluation mode and its spec."""

    network: nn.Module
    spec: ModelSpec

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device


def network_of(spec: ModelSpec, seed: int = 0) -> nn.Module:
    """The spec's network with weights drawn from `seed`."""
    return build_network(
        num_classes=len(spec.classes),
        channels=spec.channels,
        image_size=spec.image_size,
        seed=seed,
        **spec.network,
    )


def save_checkpoint(folder: Path, weights: dict[str, Tensor], spec: ModelSpec) -> None:
    """Write weights and spec to `folder`, whole or not at all."""
    with folder_written_whole(folder) as finished:
        plain = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
        save_file(plain, finished / WEIGHTS)
        write_json(finished / SPEC, asdict(spec))


def load_checkpoint(folder: Path) -> Checkpoint:
    """The model in `folder`, in evaluation mode on the CPU.

    Raises CheckpointError where a file is missing, cut, or does not fit the network.
    """
    spec = read_spec(folder)
    path = folder / WEIGHTS
    try:
        weights = load_file(regular(path))
        _check_size(spec, sum(weight.numel() for weight in weights.values()))
        network = network_of(spec)
        network.load_state_dict(weights)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not readable as safetensors ({error})") from None
    except FOREIGN as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: does not fit {folder / SPEC} ({reason})") from None
    return Checkpoint(network.eval(), spec)


def _check_size(spec: ModelSpec, count: int) -> None:
    """Raise ValueError for a network far larger than its weights, before it takes the memory.

    A network of ours whose parameters set its size has a lower bound of its weights here.
    """
    name, least = spec.network["name"], 0
    if name == "resnet_small":
        least = 100 * spec.network.get("depth", 1) * spec.network.get("width", 16) ** 2
    elif (size := depth_and_width(name)) is not None:
        deep, wide = size
        least = (deep - 4) // 6 * 9 * (64 * wide) ** 2
    if least > count:
        raise ValueError(f"over {least:,} weights, where there are {count:,}")
