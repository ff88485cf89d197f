"""Networks of torchvision and timm by name, which are slow to import and so imported late."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from torch import nn

from pipeline.errors import ModelError
from pipeline.models.stem import first_convolution, replace_convolution
from pipeline.params.errors import SHOWN

TORCHVISION_NOISE = {"dropout_rate": "dropout", "stochastic_depth_rate": "stochastic_depth_prob"}
OURS = ("resnet_small", "unet_small", "lenet5", "efficientnet", "wrn_28_2", "wrn_28_8")


def library_network(
    name: str, *, num_classes: int, channels: int, noise: dict[str, float]
) -> nn.Module:
    """The network `name` of torchvision or timm; a bare name is looked up in that order.

    `noise`: dropout_rate and stochastic_depth_rate, where 0 means none, whatever the library's own
    default. Raises ModelError for an unknown name, or a rate that the network does not take.
    """
    library, _, bare = name.rpartition("/")
    if library in ("", "torchvision") and bare in _torchvision_names():
        return _from_torchvision(bare, num_classes, channels, noise)
    if library in ("", "timm") and bare in _timm_names():
        return _from_timm(bare, num_classes, channels, noise)
    names = [*OURS, *_torchvision_names(), *_timm_names()]
    hint = did_you_mean(bare, names)
    raise ModelError(f"model.name = {name[:SHOWN]!r}: neither torchvision nor timm has it{hint}")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """What ends a message about a name that is not among `names`: a question, if one is near."""
    close = difflib.get_close_matches(name[:SHOWN], list(dict.fromkeys(names)), n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


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
    _still(network, noise)
    if channels != 3:  # torchvision has no argument for it
        replace_convolution(network, first_convolution(network)[0], in_channels=channels)
    return network


def _refused(error: TypeError, noise: dict[str, float]) -> list[str]:
    """The rates that `error` is about: those whose argument it names, else all that are set."""
    set_rates = [rate for rate, value in noise.items() if value]
    return [rate for rate in set_rates if f"'{TORCHVISION_NOISE[rate]}'" in str(error)] or set_rates


def _still(network: nn.Module, noise: dict[str, float]) -> None:
    """Switch off the noise that torchvision has by default and nobody asked for."""
    from torchvision.ops import StochasticDepth

    for module in network.modules():
        if isinstance(module, nn.Dropout) and not noise["dropout_rate"]:
            module.p = 0.0
        if isinstance(module, StochasticDepth) and not noise["stochastic_depth_rate"]:
            module.p = 0.0


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
