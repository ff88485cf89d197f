"""Work done ahead: while one batch is trained on, a thread makes the next."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Key = TypeVar("Key")
Made = TypeVar("Made")


def prefetched(
    make: Callable[[Key], Made], keys: Iterable[Key]
) -> Generator[tuple[Key, Made], None, None]:
    """Each of `keys` with what `make` makes of it, in order; the next one is being made meanwhile.

    torch leaves the interpreter's lock while it computes, so both use a core each. What `make`
    raises is raised here, when it is that key's turn. Close the generator to end its thread.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        waiting: tuple[Key, Future[Made]] | None = None
        for key in keys:
            following = (key, thread.submit(make, key))
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = following
        if waiting is not None:
            yield waiting[0], waiting[1].result()
