"""How much memory this process may take, and arrays that take none of it."""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

SMALL_ARRAY = 1 << 26  # bytes


def address_space() -> int:
    """The bytes of this process, on Linux; elsewhere no limit needs them."""
    if sys.platform != "linux":
        return 0
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


@contextmanager
def memory_limited(most: int) -> Iterator[None]:
    """Let this process take at most so many bytes more in the block, on Linux.

    For libraries that allocate whatever size a file of a few bytes names. Raised then is
    MemoryError, or what the library makes of it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = address_space() + most
    if sys.platform == "linux" and not 0 <= soft < limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def large_array(shape: tuple[int, ...], kind: DTypeLike) -> NDArray[Any]:
    """An array to fill: in a temporary file where it is over SMALL_ARRAY, whose pages the machine
    may take back."""
    if int(np.prod(shape)) * np.dtype(kind).itemsize <= SMALL_ARRAY:
        return np.empty(shape, kind)
    with tempfile.TemporaryFile() as file:
        return np.asarray(np.memmap(file, kind, "w+", shape=shape))
