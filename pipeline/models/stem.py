"""Stems for small images: networks made for 224 pixels shrink the first features fourfold, which
leaves nothing of a 32-pixel image (as He et al. 2015, sec. 4.2, and most work on CIFAR do it)."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import ModelError

Stem = Literal["auto", "small", "standard"]
SMALL_SIDE = 64  # auto: images up to this size get the small stem


def fit_stem(network: nn.Module, name: str, stem: Stem, side: int) -> None:
    """Give `network` a first convolution of 3×3 with stride 1 and no pooling after it, in place.

    `small` does so wherever the first convolution shrinks two- or fourfold, and raises ModelError
    where it does not; `auto` where convolution and pooling together shrink fourfold or more and
    images are small; `standard` never.
    """
    path, convolution = first_convolution(network)
    stride = convolution.stride[0]
    pool = _pool_after(network)
    if stem == "small" and stride not in (2, 4):
        raise ModelError(
            f"model.stem = 'small': {name} begins with a convolution of stride {stride}, "
            "for which there is no small form; set it to auto"
        )
    shrinks = pool is not None or type(network).__name__ == "ConvNeXt"
    large = shrinks and stride * (2 if pool is not None else 1) >= 4 and stride <= 4
    if stem == "small" or (stem == "auto" and large and side <= SMALL_SIDE):
        replace_convolution(network, path, kernel_size=3, stride=1, padding=1)
        if pool is not None:
            _replace(network, pool, nn.Identity())


def first_convolution(network: nn.Module) -> tuple[str, nn.Conv2d]:
    """The path and module of the convolution that sees the images."""
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            return path, module
    raise ModelError(f"{type(network).__name__} has no convolution to read images with")


def replace_convolution(network: nn.Module, path: str, **changes: Any) -> None:
    """Put a fresh convolution in place of the one at `path`, with `changes` of its arguments."""
    plain = network.get_submodule(path)
    assert isinstance(plain, nn.Conv2d)
    skipped = ("self", "bias", "device", "dtype")
    arguments = {
        key: getattr(plain, key)
        for key in inspect.signature(nn.Conv2d).parameters
        if key not in skipped
    }
    fresh = nn.Conv2d(**(arguments | changes), bias=plain.bias is not None)
    _replace(network, path, fresh)


def _pool_after(network: nn.Module) -> str | None:
    """The path of the max-pooling between the first and the second convolution, if any."""
    layers = (
        (path, type(module))
        for path, module in network.named_modules()
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d))
    )
    _, (path, kind) = next(layers), next(layers, ("", nn.Conv2d))
    return path if issubclass(kind, nn.MaxPool2d) else None


def _replace(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(network.get_submodule(parent), leaf, module)


@dataclass(frozen=True)
class Resize:
    """Called before a network's forward; resizes its images to `side` pixels, bilinearly.

    Not a module around the network, so that the names of its weights
    stay the same.
    """

    side: int

    def __call__(self, network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """(images (N, C, S, S),) → (images (N, C, side, side),)."""
        images, *others = inputs
        return (resized(images, self.side), *others)


def resized(images: Tensor, side: int) -> Tensor:
    """Images (N, C, S, S) with `side` × `side` pixels; what shrinks is antialiased."""
    if images.shape[-1] == side:
        return images
    shrinks = images.shape[-1] > side
    return F.interpolate(images, (side, side), mode="bilinear", antialias=shrinks)


def resize_inputs(network: nn.Module, side: int) -> None:
    """Have `network` resize what it is given to `side` × `side`, on the device it runs on."""
    network.register_forward_pre_hook(Resize(side))
