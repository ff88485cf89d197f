"""Which device a parameter means."""

from __future__ import annotations

import torch


def resolve_device(name: str) -> torch.device:
    """The device of a `device` parameter: auto is a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def gpu_is_there() -> bool:
    """Whether there is a GPU that torch can use."""
    return torch.cuda.is_available()
