"""Do a task for each of many items, in threads here; pipeline.ray does the same over a cluster."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

_thread = threading.local()


class MapItems(Protocol):
    """Do a task for each item, in any place; what it makes comes in the order of the items.

    Few items are taken before their turn, so that they may be many, and large together.
    """

    def __call__(
        self, task: Callable[[Item], Made], items: Iterable[Item], /
    ) -> Iterator[Made]: ...


class EndedError(Exception):
    """Nobody waits any more for what a task would make."""


def check_ended() -> None:
    """Raise EndedError in a task of `in_threads` whose caller has gone, as at Ctrl-C; a long task
    calls it now and then."""
    ended: threading.Event | None = getattr(_thread, "ended", None)
    if ended is not None and ended.is_set():
        raise EndedError


def in_threads(threads: int) -> MapItems:
    """Tasks in this process, `threads` at once; never more than twice as many are held."""

    def map_items(task: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        waiting: deque[Future[Any]] = deque()
        ended = threading.Event()

        def note() -> None:
            _thread.ended = ended

        with ThreadPoolExecutor(threads, "task", initializer=note) as pool:
            try:
                for item in items:
                    waiting.append(pool.submit(task, item))
                    if len(waiting) > 2 * threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                ended.set()
                pool.shutdown(cancel_futures=True)

    return map_items
