"""Which image sizes a network takes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError

ERRORS = (RuntimeError, AssertionError, ValueError, LookupError, ArithmeticError)
SIDES = (8, 16, 24, 28, 32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 320, 384, 448, 512, 1024)


def check_size(
    network: nn.Module,
    name: str,
    *,
    num_classes: int,
    channels: int,
    side: int,
    key: str,
    trace: bool,
    dense: bool = False,
) -> None:
    """Raise ModelError unless `network` makes logits of `side` × `side` images.

    The error names the least size that would do and `key`, the parameter that says the size. With
    `trace` only shapes are computed, which a large network does faster, but torch needs seconds
    to load what it takes. The network comes back in training mode. One on the device `meta`, which
    is built for its shapes alone, is not tried. dense: whether the logits are of each pixel.
    """
    if next(network.parameters()).is_meta:
        return

    def failure(other: int) -> str | None:
        images = (2, channels, other, other)
        wanted = (2, num_classes, other, other) if dense else (2, num_classes)
        return _failure(network, images, wanted, trace)

    network.eval()
    reason = failure(side)
    if reason is not None:
        raise ModelError(
            f"model.name = {name!r}: can't take {side}×{side} images with {channels} "
            f"channel(s) ({reason}); {_advice(failure, side, key)}"
        )
    network.train()


def _failure(
    network: nn.Module, images: tuple[int, ...], wanted: tuple[int, ...], trace: bool
) -> str | None:
    """Why the network can't take images of this shape, None where it can."""
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    logits = None
    with torch.no_grad():
        if trace:
            with suppress(*ERRORS):  # perhaps only because a network can't be traced
                shapes = {key: torch.empty_like(t, device="meta") for key, t in tensors.items()}
                traced = torch.zeros(images, device="meta")
                logits = torch.func.functional_call(network, shapes, (traced,))
        try:
            if logits is None:
                device = next(iter(tensors.values())).device
                logits = network(torch.zeros(images, device=device))
        except ERRORS as error:
            return (str(error).splitlines() or [type(error).__name__])[0]
    if not isinstance(logits, Tensor) or logits.shape != wanted:
        kind = type(network).__name__
        raise ModelError(f"model.name: {kind} is no classifier of {wanted[1]} classes")
    return None


def _advice(failure: Callable[[int], str | None], side: int, key: str) -> str:
    """What to do about a network that does not take such images: the least larger size that it
    takes, of one that takes some sizes only, such as multiples of 16, one of them."""

    def fits(other: int) -> bool:
        return failure(other) is None

    low = side
    for high in (candidate for candidate in SIDES if candidate > side):
        if fits(high):
            between = range(low + 1, high + 1)
            return f"least {key} is {between[bisect_left(between, True, key=fits)]}"
        low = high
    for smaller in (candidate for candidate in reversed(SIDES) if candidate < side):
        if fits(smaller):
            return f"set model.input_size to {smaller}"
    return "choose another network"
