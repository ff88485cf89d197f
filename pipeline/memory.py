"""How much memory this process may take, where the files of strangers say what they need."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
