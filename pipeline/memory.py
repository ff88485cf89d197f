"""How much memory this process may take, and arrays that take none of it."""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def joined(parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """The parts, (n, …) each and of one type, after each other; at least one.

    Together over SMALL_ARRAY they lie in a temporary file, whose pages the machine may take back,
    and one part at a time is in memory.
    """
    coming, waiting, size = iter(parts), list[NDArray[Any]](), 0
    for part in coming:
        waiting.append(part)
        size += part.nbytes
        if size > SMALL_ARRAY:
            break
    else:
        return np.concatenate(waiting)
    kind, shape, rows = waiting[0].dtype, waiting[0].shape[1:], 0
    with tempfile.TemporaryFile() as file:
        for part in chain(waiting, coming):
            file.write(np.ascontiguousarray(part).data)
            rows += len(part)
        file.flush()
        return np.asarray(np.memmap(file, kind, "r+", shape=(rows, *shape)))
