"""How the pixels of views have moved, to move what belongs to them alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Warp:
    """The moves of n images, one after the other; what has none is as it was."""

    steps: tuple[Any, ...] = ()
