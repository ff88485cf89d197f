"""The tracking spool: what stages log, kept on disk until MLflow has it.

A spool is one folder `.selftrain/tracking/<time>-<run>/` for each time a stage runs:

    events.jsonl   what was logged, one JSON object a line; the first says who the run is. Locked
                   by the stage's process for as long as that lives
    files/         the artifacts as they were when they were logged

The sender removes it once the run has ended and a server has it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.files import folder_written_whole, publish_folder

Event = dict[str, Any]
EVENTS = "events.jsonl"


class Spool:
    """A new spool, held by this process until it is closed."""

    def __init__(self, root: Path, name: str, header: Mapping[str, Any]) -> None:
        self.folder = tracking_folder(root) / f"{time.time_ns()}-{name}"
        self._guard = threading.Lock()
        with folder_written_whole(self.folder) as folder:  # nobody sees it before it is locked
            self._file = (folder / EVENTS).open("ab", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self.append("run", **header)

    def append(self, kind: str, **values: Any) -> None:
        """Append one event, or leave the file as it was; raises OSError."""
        event = {"kind": kind, "time": time.time_ns() // 1_000_000, **values}
        line = (json.dumps(event) + "\n").encode()
        with self._guard:
            start = self._file.seek(0, os.SEEK_END)
            if self._file.write(line) != len(line):
                self._file.truncate(start)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))

    def keep(self, path: Path) -> str:
        """Keep a file or a folder as it is now; returns its place within the spool.

        Files of a folder are linked: a rerun only ever writes the same, or replaces them.
        """
        place = self.folder / "files" / str(time.time_ns()) / path.name
        if path.is_dir():
            publish_folder(path, place)
        else:
            place.parent.mkdir(parents=True)
            shutil.copyfile(path, place)
        return str(place.relative_to(self.folder))

    def close(self) -> None:
        """Let it go: nothing more comes."""
        self._file.close()


def tracking_folder(root: Path) -> Path:
    """Where the spools of the repository at `root` lie, and what the sender needs beside them."""
    return root.resolve() / ".selftrain" / "tracking"


def all_spools(root: Path) -> list[Path]:
    """The folders of the spools, in the order in which they were begun."""
    return sorted(events.parent for events in tracking_folder(root).glob(f"[!.]*/{EVENTS}"))


def read_events(spool: Path, offset: int = 0) -> tuple[list[Event], int]:
    """The whole events from byte `offset` on, and the offset behind them."""
    with (spool / EVENTS).open("rb") as file:
        file.seek(offset)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], offset + len(whole)


def unsent_runs(root: Path) -> int:
    """How many runs have ended of which no server has everything."""
    return sum(not is_locked(spool / EVENTS) for spool in all_spools(root))


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold the lock of the file at `path` if nobody else does; yields whether it is held."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def is_locked(path: Path) -> bool:
    """Whether another process, or another object of this one, holds the lock of `path`."""
    with suppress(FileNotFoundError), try_lock(path) as free:
        return not free
    return False
