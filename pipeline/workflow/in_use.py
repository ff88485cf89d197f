"""Marks in storage for as long as a command runs, so that `selftrain gc` leaves what it works on.

One object in each prefix, renewed by one thread of the command's own process, whatever number of
workers on whatever nodes read there. A killed command's marks grow old.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import SelftrainError
from pipeline.progress import say

if TYPE_CHECKING:
    from pipeline.data.storage import StoredFolder

RENEW_SECONDS = 600.0  # six times before a mark counts no more: stored_shards.MARK_LASTS


class Marks:
    """The marks of what the repository at `root` names in storage, and of what is added."""

    def __init__(self, root: Path) -> None:
        self._root, self._warned = root, False
        self._added: set[StoredFolder] = set()

    def add(self, prefix: StoredFolder) -> None:
        """Mark a prefix that is about to be written to, too; raises StorageError."""
        from pipeline.data.stored_shards import mark_in_use

        mark_in_use(prefix)
        self._added.add(prefix)

    def remove(self, prefix: StoredFolder) -> None:
        """Remove a prefix that was added, and all that lies there."""
        self._added.discard(prefix)
        prefix.remove_all()

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Mark now, and again every few minutes until the block ends."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(RENEW_SECONDS):
                self._mark()

        self._mark()
        thread = threading.Thread(target=renew, name="marks", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _mark(self) -> None:
        from pipeline.data.shards import read_manifest  # pyarrow takes a while to import
        from pipeline.data.storage import StoredFolder
        from pipeline.data.stored_shards import THREADS, manifests_in, mark_in_use

        def problem(prefix: StoredFolder) -> SelftrainError | None:
            try:
                mark_in_use(prefix)
            except SelftrainError as error:
                return error
            return None

        prefixes = set(self._added)
        for folder in manifests_in(self._root):
            with suppress(SelftrainError):  # who reads it tells
                if uri := read_manifest(folder).prefix:
                    prefixes.add(StoredFolder(uri))
        with ThreadPoolExecutor(THREADS) as pool:  # storage may take its time to fail
            problems = list(filter(None, pool.map(problem, prefixes)))
        if problems and not self._warned:
            self._warned = True
            warning = f"not marked as in use, so selftrain gc may remove it: {problems[0]}"
            say(f"warning: {warning}", sys.stderr)
