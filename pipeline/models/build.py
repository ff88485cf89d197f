"""Build a network from its spec: ours, or any of torchvision or timm by name."""

from __future__ import annotations

import difflib
import inspect
import warnings
from typing import Any

import torch
from torch import nn

from pipeline.errors import ModelError
from pipeline.models.small_resnet import SmallResNet

TORCHVISION_NOISE = {"dropout_rate": "dropout", "stochastic_depth_rate": "stochastic_depth_prob"}


def build_network(
    name: str,
    *,
    num_classes: int,
    channels: int,
    image_size: int,
    seed: int,
    width: int = 16,
    depth: int = 1,
    stem_stride: int = 1,
    dropout_rate: float = 0.0,
    stochastic_depth_rate: float = 0.0,
) -> nn.Module:
    """The network `name`, its weights drawn from `seed`, in training mode.

    `torchvision/NAME` and `timm/NAME` say where to look; a bare name is looked up in that order.
    Input: (N, channels, image_size, image_size); output: logits (N, num_classes).
    Raises ModelError where the name is unknown, or the network can't be had in this form.
    """
    noise = {"dropout_rate": dropout_rate, "stochastic_depth_rate": stochastic_depth_rate}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.default_generator.manual_seed(seed)  # alone: torch.manual_seed seeds GPUs too
        if name == "resnet_small":
            network: nn.Module = SmallResNet(
                num_classes, channels, width, depth, stem_stride, **noise
            )
        else:
            network = _from_library(name, num_classes, channels, noise)
        _check_size(network, name, num_classes, channels, image_size)
    return network


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)


def _from_library(name: str, num_classes: int, channels: int, noise: dict[str, float]) -> nn.Module:
    library, _, bare = name.rpartition("/")
    if library in ("", "torchvision") and bare in _torchvision_names():
        return _from_torchvision(bare, num_classes, channels, noise)
    if library in ("", "timm") and bare in _timm_names():
        return _from_timm(bare, num_classes, channels, noise)
    names = ["resnet_small", *_torchvision_names(), *_timm_names()]
    close = difflib.get_close_matches(bare, list(dict.fromkeys(names)), n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise ModelError(f"model.name = {name!r}: neither torchvision nor timm has it{hint}")


def _torchvision_names() -> list[str]:
    from torchvision import models

    names: list[str] = models.list_models(module=models)
    return names


def _timm_names() -> list[str]:
    import timm

    names: list[str] = timm.list_models()
    return names


def _from_torchvision(
    name: str, num_classes: int, channels: int, noise: dict[str, float]
) -> nn.Module:
    from torchvision import models

    options: dict[str, Any] = {"num_classes": num_classes}
    for rate, argument in TORCHVISION_NOISE.items():
        if noise[rate]:
            options[argument] = noise[rate]
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": False}
    try:
        network: nn.Module = models.get_model(name, weights=None, **options)
    except TypeError as error:
        refused = _refused(error, noise)
        raise ModelError(
            f"model.name = {name!r}: torchvision's network takes no {' or '.join(refused)}; "
            f"set it to 0, or try timm/{name}"
        ) from None
    if channels != 3:
        _replace_first_convolution(network, channels)
    return network


def _refused(error: TypeError, noise: dict[str, float]) -> list[str]:
    """The rates that `error` is about: those whose argument it names, else all that are set."""
    asked = [rate for rate, value in noise.items() if value]
    return [rate for rate in asked if f"'{TORCHVISION_NOISE[rate]}'" in str(error)] or asked


def _replace_first_convolution(network: nn.Module, channels: int) -> None:
    """Let the first convolution read `channels` channels; torchvision has no argument for it."""
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            parent_path, _, leaf = path.rpartition(".")
            arguments = {
                key: getattr(module, key)
                for key in inspect.signature(nn.Conv2d).parameters
                if key not in ("in_channels", "bias", "device", "dtype")
            }
            replacement = nn.Conv2d(channels, bias=module.bias is not None, **arguments)
            setattr(network.get_submodule(parent_path), leaf, replacement)
            return


def _from_timm(name: str, num_classes: int, channels: int, noise: dict[str, float]) -> nn.Module:
    import timm

    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": channels}
    options["drop_rate"] = noise["dropout_rate"]
    if noise["stochastic_depth_rate"]:
        options["drop_path_rate"] = noise["stochastic_depth_rate"]
    try:
        network: nn.Module = timm.create_model(name, pretrained=False, **options)
    except TypeError as error:
        raise ModelError(f"model.name = {name!r}: timm can't build it so ({error})") from None
    return network


def _check_size(
    network: nn.Module, name: str, num_classes: int, channels: int, image_size: int
) -> None:
    """Run two grey images through the network, so that a size it can't take shows at once."""
    network.eval()
    try:
        with torch.no_grad():
            logits = network(torch.zeros(2, channels, image_size, image_size))
    except (RuntimeError, AssertionError, ValueError, LookupError, ArithmeticError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"model.name = {name!r}: can't take {image_size}×{image_size} images with "
            f"{channels} channel(s) ({reason}); raise data.image_size or choose another network"
        ) from None
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, num_classes):
        raise ModelError(f"model.name = {name!r}: is no classifier of {num_classes} classes")
    network.train()
