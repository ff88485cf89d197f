"""Models on disk: weights as safetensors, everything else as JSON; no pickle."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pipeline.errors import CheckpointError
from pipeline.models.build import build_network
from pipeline.models.spec import SPEC, WEIGHTS, ModelSpec, read_spec
from pipeline.models.tensor_files import Form, read_weights, write_model

# The number types of torch as safetensors names them.
TYPES = {"float": "F", "bfloat": "BF", "complex": "C", "int": "I", "uint": "U", "bool": "BOOL"}
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
    plain = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    write_model(folder, spec, partial(save_file, plain))


def load_checkpoint(folder: Path) -> Checkpoint:
    """The model in `folder`, in evaluation mode on the CPU.

    Raises CheckpointError where a file is missing, damaged, or does not fit the network, which is
    first built without memory for its weights.
    """
    spec = read_spec(folder)
    try:
        forms = {key: _form(value) for key, value in _without_memory(spec).state_dict().items()}
        weights = read_weights(folder, spec, "pt", forms=forms)
        network = network_of(spec)
        network.load_state_dict(weights)
    except FOREIGN as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{folder / WEIGHTS}: does not fit {folder / SPEC} ({reason})"
        ) from None
    return Checkpoint(network.eval(), spec)


def _without_memory(spec: ModelSpec) -> nn.Module:
    with torch.device("meta"):
        try:
            return network_of(spec)
        except NotImplementedError:
            with _CountedOnCpu():
                return network_of(spec)


class _CountedOnCpu(TorchFunctionMode):
    """Keeps the numbers in memory by which torchvision's regnet computes its widths and depths."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        here = {"device": "cpu"} if func in (torch.arange, torch.tensor) else {}
        return func(*args, **(kwargs or {}) | here)


def _form(tensor: Tensor) -> Form:
    name = str(tensor.dtype).removeprefix("torch.")
    kind = name.rstrip("0123456789")
    return TYPES[kind] + name.removeprefix(kind), tuple(tensor.shape)
