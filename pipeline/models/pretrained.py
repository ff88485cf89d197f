"""Weights that a run starts from: read from where they are, and fitted into a network.

What is read is tensors by name, whoever wrote them: safetensors, or torch files with
`weights_only`, which unpickles tensors and nothing else.
"""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.data.decoder import MEMORY
from pipeline.errors import CheckpointError, ParameterError
from pipeline.files import file_digest, regular, value_digest
from pipeline.memory import memory_limited
from pipeline.models.dense import own_names
from pipeline.models.parts import head_names, network_parts
from pipeline.models.spec import SPEC, WEIGHTS, read_spec
from pipeline.models.tensor_files import check_numbers, read_safetensors, read_weights
from pipeline.params.dense import body_name
from pipeline.params.errors import shortened
from pipeline.params.transfer import PACKAGED_NETWORK

WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which others keep the weights
LEAST_SHARE = 0.5  # of the body's weights that must fit
ZIP = b"PK\x03\x04"  # how torch's files begin, but for old ones
HUB_HOSTS = {"timm": "huggingface.co", "torchvision": "download.pytorch.org"}
ONLY_TENSORS = (
    "only tensors are read from a torch file, as torch.save(model.state_dict(), file) writes it"
)
OFFLINE = f"; transfer.source: packaged with model.name: {PACKAGED_NETWORK} needs no network"


@dataclass(frozen=True)
class Weights:
    """The weights of a trained network.

    `mean`, `std`: what its inputs are normalised by, per channel, of [0, 1], None where nobody
    says; `classes`: their names, None where they are unknown; `network`: how it was built, for
    messages.
    """

    tensors: dict[str, Tensor]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: tuple[str, ...] | None = None
    network: str = ""


@dataclass(frozen=True)
class Fitted:
    """What came of loading: names of the weights that were, and why the others were not."""

    loaded: tuple[str, ...]
    skipped: dict[str, str]


def path_digest(path: Path, section: str = "transfer") -> str:
    """SHA-256 that names a model folder or a file of weights; raises CheckpointError for neither.

    A folder's is over its weights and its description together.
    """
    try:
        if path.is_dir():
            return value_digest({name: file_digest(path / name) for name in (WEIGHTS, SPEC)})
        return file_digest(path)
    except OSError as error:
        raise CheckpointError(
            f"{section}.source = '{path}': neither a model folder ({WEIGHTS}, {SPEC}) nor a "
            f"readable file ({error.strerror})"
        ) from None


def read_folder(folder: Path) -> Weights:
    """The weights of a model folder of this project."""
    spec = read_spec(folder)
    shown = ", ".join(f"{key}: {value}" for key, value in spec.network.items())
    return Weights(
        read_weights(folder, spec, "pt"),
        tuple(spec.mean),
        tuple(spec.std),
        tuple(spec.classes),
        f"model: {{{shown}}}",
    )


def read_file(path: Path, name: str) -> Weights:
    """The weights in a .safetensors, .pth or .pt file, normalised as library network `name` is."""
    mean, std = published_normalization(name)
    return Weights(read_tensors(path), mean, std)


def read_hub(hub: str, name: str) -> Weights:
    """The published weights of network `name`: from timm's or torchvision's hub, or its cache."""
    bare = name.rpartition("/")[2]
    mean, std = published_normalization(f"{hub}/{bare}")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # before huggingface_hub is imported
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tensors = _published_tensors(hub, bare)
    except Exception as error:  # each hub client has errors of its own
        reason = (" ".join(str(error).split()) or type(error).__name__)[:160]
        raise CheckpointError(
            f"transfer.source = {hub!r}: no weights of {bare!r} to be had ({reason}); this needs "
            f"a network of {hub} and access to {HUB_HOSTS[hub]}, or give a file as transfer.source"
            f"{OFFLINE if hub == 'timm' else ''}"
        ) from None
    return Weights(tensors, mean, std, network=f"model: {{name: {hub}/{bare}}}")


def _published_tensors(hub: str, name: str) -> dict[str, Tensor]:
    if hub == "timm":
        import timm

        network: nn.Module = timm.create_model(name, pretrained=True)
        return dict(network.state_dict())
    from torchvision import models

    weights: Any = models.get_model_weights(name).DEFAULT
    return dict(weights.get_state_dict(progress=False, weights_only=True))


def published_normalization(
    name: str,
) -> tuple[tuple[float, ...], tuple[float, ...]] | tuple[None, None]:
    """Mean and deviation that the published weights of a library's network want, if it has any."""
    if name in ("resnet_small", "unet_small"):
        return None, None
    library, _, bare = body_name(name).rpartition("/")
    if library in ("", "torchvision"):
        from torchvision import models

        if bare in models.list_models(module=models):
            weights: Any = next(iter(models.get_model_weights(bare)), None)
            if weights is None:
                return None, None
            transforms = weights.transforms()
            return tuple(transforms.mean), tuple(transforms.std)
    if library in ("", "timm"):
        import timm

        config: Any = timm.models.get_pretrained_cfg(bare)
        if config is not None:
            return tuple(config.mean), tuple(config.std)
    return None, None


def normalization(weights: Weights, channels: int) -> tuple[list[float], list[float]] | None:
    """The source's mean and deviation for so many channels; None where it has none.

    Three are averaged for grey images, and one is repeated for colour.
    """
    if weights.mean is None or weights.std is None:
        return None
    both = []
    for values in (weights.mean, weights.std):
        same = len(values) == channels
        both.append(list(values) if same else [sum(values) / len(values)] * channels)
    return both[0], both[1]


def load_weights(network: nn.Module, weights: Weights, *, head: bool, source: str) -> Fitted:
    """Put into `network` every weight whose name and shape fit; the classifier's only with `head`.

    A first convolution of three channels is summed over them for one, and one of one channel is
    repeated and divided by three. Raises ParameterError, saying what does not fit, where that is
    less than half of the body's weights; `source` names the weights in it.
    """
    stripped = {key.removeprefix("module."): value for key, value in weights.tensors.items()}
    tensors = own_names(network, stripped)
    classifier = tuple(f"{name}." for name in head_names(network))
    loaded: dict[str, Tensor] = {}
    skipped: dict[str, str] = {}
    for key, value in network.state_dict().items():
        if key.startswith(classifier) and not head:
            continue
        fitting = _fitting(tensors.get(key), value)
        if fitting is None:
            has = f"is {tuple(tensors[key].shape)}" if key in tensors else "is not there"
            skipped[key] = f"{shortened(has)}, not {tuple(value.shape)}"
        else:
            loaded[key] = fitting.to(value.dtype)
    check_numbers(loaded, f"transfer.source = {source!r}")
    parts = network_parts(network)
    body = ((key, w) for key, w in network.named_parameters() if parts.stage_of(key) is not None)
    sizes = {key: weight.numel() for key, weight in body}
    fits = sum(size for key, size in sizes.items() if key in loaded)
    total = sum(sizes.values())
    if fits < LEAST_SHARE * total:
        first = "; ".join(f"{key} {reason}" for key, reason in list(skipped.items())[:3])
        hint = weights.network or "the network that the weights are of"
        raise ParameterError(
            f"transfer.source = {source!r}: only {fits:,} of the body's {total:,} weights fit "
            f"({first}; {len(skipped)} in all); set {hint}"
        )
    network.load_state_dict(loaded, strict=False)
    return Fitted(tuple(loaded), skipped)


def _fitting(weight: Tensor | None, target: Tensor) -> Tensor | None:
    """`weight` in the shape of `target`, or None where it does not fit."""
    if weight is None or weight.is_floating_point() != target.is_floating_point():
        return None
    if weight.shape == target.shape:
        return weight
    if weight.ndim != 4 or target.ndim != 4:
        return None
    if (weight.shape[0], weight.shape[2:]) != (target.shape[0], target.shape[2:]):
        return None
    channels = weight.shape[1], target.shape[1]
    if channels == (3, 1):
        return weight.sum(dim=1, keepdim=True)
    return weight.repeat(1, 3, 1, 1) / 3 if channels == (1, 3) else None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a .safetensors, .pth or .pt file, by name; raises CheckpointError."""
    if path.suffix == ".safetensors":
        return read_safetensors(path, "pt")
    try:
        size = regular(path).stat().st_size
        _check_zip(path, size)
        with warnings.catch_warnings():  # of tensors that are refused below
            warnings.simplefilter("ignore")
            with memory_limited(MEMORY + 2 * size):
                found = torch.load(path, map_location="cpu", weights_only=True)
        tensors = _named_tensors(found)
        for name, tensor in tensors.items():
            plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
            if not plain or tensor.is_quantized or tensor.nbytes > size:
                raise ValueError(f"{shortened(name)}: not a plain tensor that the file holds")
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        reason = " ".join(str(error).split())[:160]
    except MemoryError:
        reason = f"takes over {MEMORY >> 20} MiB of memory beside twice its own size"
    except Exception as error:  # torch's unpickler has many
        reason = f"{type(error).__name__}: {ONLY_TENSORS}"
    else:
        return tensors
    raise CheckpointError(f"transfer.source = '{path}': not readable as weights ({reason})")


def _check_zip(path: Path, size: int) -> None:
    """Raise an error unless what torch would unpack takes no more than the file's own `size`."""
    with path.open("rb") as file:
        if file.read(len(ZIP)) != ZIP:
            return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > size:
        raise ValueError("compressed, as torch never writes it")


def _named_tensors(value: Any) -> dict[str, Tensor]:
    """The tensors by name in what a torch file held."""
    for key in WRAPPERS:
        if isinstance(value, Mapping) and isinstance(value.get(key), Mapping):
            value = value[key]
            break
    if not isinstance(value, Mapping):
        raise ValueError(f"a {type(value).__name__}, not tensors by name")
    tensors = {str(key): item for key, item in value.items() if isinstance(item, Tensor)}
    if not tensors:
        raise ValueError("no tensors by name")
    return tensors
