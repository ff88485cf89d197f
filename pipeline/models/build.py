"""Build a network from its spec: ours, or any of torchvision or timm by name."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from pipeline.errors import ModelError
from pipeline.models.dense import Dense, dense_network
from pipeline.models.networks import LeNet5, SmallResNet, WideResNet, depth_and_width
from pipeline.models.size import check_size
from pipeline.models.stem import Stem, fit_stem, resize_inputs
from pipeline.params.dense import UNET_SMALL, is_dense
from pipeline.params.ladders import COMPOUND_SIDES

LARGE_SIDE = 64  # pixels, above which our networks too are tried by their shapes alone


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
    compound: int = 0,
    stem: Stem = "auto",
    input_size: int | None = None,
    dropout_rate: float = 0.0,
    stochastic_depth_rate: float = 0.0,
) -> nn.Module:
    """The network `name`, its weights drawn from `seed`, in training mode.

    `torchvision/NAME` and `timm/NAME` say where to look; a bare name is looked up in that order.
    `width`, `depth` and `stem_stride` are resnet_small's and unet_small's, `compound`
    efficientnet's; `stem`: see fit_stem.
    Input: (N, channels, image_size, image_size); output: logits (N, num_classes), where dense of
    each pixel.
    Raises ModelError where the name is unknown, or the network can't be had in this form.
    """
    noise = {"dropout_rate": dropout_rate, "stochastic_depth_rate": stochastic_depth_rate}
    side, dense = network_side(name, image_size, input_size, compound), is_dense(name)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.default_generator.manual_seed(seed)  # alone: torch.manual_seed seeds GPUs too
        ours = _ours(name, num_classes, channels, width, depth, stem_stride, noise)
        if ours is None:
            from pipeline.models.library import library_network  # torchvision takes seconds

            network = library_network(
                f"torchvision/efficientnet_b{compound}" if name == "efficientnet" else name,
                num_classes=num_classes,
                channels=channels,
                noise=noise,
            )
            fit_stem(network, name, stem, side)
        elif stem == "small":
            raise ModelError(
                f"model.stem = 'small': {name} has no other than its own; set it to auto"
            )
        else:
            network = ours
        check_size(
            network,
            name,
            num_classes=num_classes,
            channels=channels,
            side=side,
            key="data.image_size or model.input_size" if input_size is None else "model.input_size",
            trace=ours is None or (dense and name != UNET_SMALL) or side > LARGE_SIDE,
            dense=dense,
        )
    _resize(network, side, image_size)
    return network


def network_side(name: str, image_size: int, input_size: int | None, compound: int) -> int:
    """The side of the images that the network sees of those stored with `image_size`.

    By itself efficientnet sees the side that goes with its `compound`, where so much is stored.
    """
    if input_size is not None:
        return input_size
    return min(image_size, COMPOUND_SIDES[compound]) if name == "efficientnet" else image_size


def _resize(network: nn.Module, side: int, image_size: int) -> None:
    if side != image_size and isinstance(network, Dense):
        network.input_side = side
    elif side != image_size:
        resize_inputs(network, side)


def _ours(
    name: str,
    num_classes: int,
    channels: int,
    width: int,
    depth: int,
    stem_stride: int,
    noise: dict[str, Any],
) -> nn.Module | None:
    """A network written here or put together here; None for a library's."""
    if is_dense(name):
        sizes = {"width": width, "depth": depth, "stem_stride": stem_stride}
        return dense_network(name, num_classes=num_classes, channels=channels, noise=noise, **sizes)
    if name == "resnet_small":
        return SmallResNet(num_classes, channels, width, depth, stem_stride, **noise)
    if name == "lenet5":
        return LeNet5(num_classes, channels, **noise)
    if (size := depth_and_width(name)) is not None:
        return WideResNet(num_classes, channels, *size, **noise)
    return None
