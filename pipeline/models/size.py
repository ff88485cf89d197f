"""Which image sizes a network takes."""

from __future__ import annotations

from collections.abc import Callable

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
) -> None:
    """Raise ModelError unless `network` makes logits of `side` × `side` images.

    The error names the least size that would do and `key`, the parameter that says the size. With
    `trace` only shapes are computed, which a large network does faster, but torch needs seconds
    to load what it takes. The network comes back in training mode.
    """

    def failure(other: int) -> str | None:
        return _failure(network, num_classes, channels, other, trace)

    network.eval()
    reason = failure(side)
    if reason is not None:
        raise ModelError(
            f"model.name = {name!r}: can't take {side}×{side} images with {channels} "
            f"channel(s) ({reason}); {_advice(failure, side, key)}"
        )
    network.train()


def _failure(
    network: nn.Module, num_classes: int, channels: int, side: int, trace: bool
) -> str | None:
    """Why the network can't take such images, None where it can."""
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    device = next(iter(tensors.values())).device
    logits = None
    with torch.no_grad():
        if trace:
            try:
                shapes = {key: torch.empty_like(t, device="meta") for key, t in tensors.items()}
                images = torch.zeros(2, channels, side, side, device="meta")
                logits = torch.func.functional_call(network, shapes, (images,))
            except ERRORS:
                logits = None  # perhaps only because a network can't be traced
        try:
            if logits is None:
                logits = network(torch.zeros(2, channels, side, side, device=device))
        except ERRORS as error:
            return (str(error).splitlines() or [type(error).__name__])[0]
    if not isinstance(logits, Tensor) or logits.shape != (2, num_classes):
        kind = type(network).__name__
        raise ModelError(f"model.name: {kind} is no classifier of {num_classes} classes")
    return None


def _advice(failure: Callable[[int], str | None], side: int, key: str) -> str:
    """What to do about a network that does not take such images."""
    least = _least_larger(failure, side)
    if least is not None:
        return f"least {key} is {least}"
    for smaller in (candidate for candidate in reversed(SIDES) if candidate < side):
        if failure(smaller) is None:
            return f"set model.input_size to {smaller}"
    return "choose another network"


def _least_larger(failure: Callable[[int], str | None], side: int) -> int | None:
    """The least size over `side` that does not fail; None where none up to 1024 will do.

    Of a network that takes some sizes only, such as multiples of 16, one of them.
    """
    low = side
    for high in (candidate for candidate in SIDES if candidate > side):
        if failure(high) is None:
            break
        low = high
    else:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if failure(middle) is None:
            high = middle
        else:
            low = middle
    return high
