"""The tracking spool: what stages log, kept on disk until MLflow has it.

A spool is one folder `.selftrain/tracking/runs/<run key>/` for each run:

    run.json       who the run is: keys, names, tags, experiment, when its work began
    events.jsonl   what was logged, one JSON object a line, only ever appended to; gone once the
                   run has ended and a server has it
    files/         the artifacts as they were when they were logged
    sent.json      how many bytes of events.jsonl the server `uri` has
    refused.jsonl  events that a server will never take
    lock           held by the tracker that writes; free once its process is gone
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout

from pipeline.files import read_json, write_json

Event = dict[str, Any]

MODEL_DIGEST = "selftrain.model_digest"  # the tag of a logged model and of a registered version
ENDED = ("FINISHED", "FAILED", "KILLED")
COPY_BYTES = 64 << 20


class Spool:
    """The files of one tracked run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.header = folder / "run.json"
        self.events = folder / "events.jsonl"
        self.files = folder / "files"
        self.sent = folder / "sent.json"
        self.lock = folder / "lock"

    def open(self, header: Mapping[str, Any]) -> None:
        """Make it ready for events; what a killed run has left in it, and its start, stay."""
        self.cut_torn_line()
        if self.events.exists():
            header = {**header, "started": read_json(self.header)["started"]}
        else:
            self.sent.unlink(missing_ok=True)
        write_json(self.header, header)

    def read(self, offset: int = 0) -> list[tuple[Event, int]]:
        """The whole events from byte `offset` on, each with the offset behind it."""
        data = b""
        with suppress(FileNotFoundError), self.events.open("rb") as file:
            file.seek(offset)
            data = file.read()
        events, end = [], offset
        for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
            end += len(line)
            events.append((json.loads(line), end))
        return events

    def append(self, event: Event) -> None:
        """Append one event in a single write, or leave the file as it was; raises OSError."""
        stamped = {"time": time.time_ns() // 1_000_000, **event}
        line = (json.dumps(stamped) + "\n").encode()
        with self.events.open("ab", buffering=0) as file:
            start = file.seek(0, os.SEEK_END)
            if file.write(line) != len(line):
                file.truncate(start)
                raise OSError(f"no space to write {self.events}")

    def keep(self, path: Path) -> str:
        """Copy a file or a folder as it is now; returns its place within the spool."""
        place = self.files / str(time.time_ns()) / path.name
        place.parent.mkdir(parents=True)
        if path.is_dir():
            shutil.copytree(path, place, copy_function=_copy_or_link)
        else:
            _copy_or_link(str(path), str(place))
        return str(place.relative_to(self.folder))

    def cut_torn_line(self) -> None:
        """Drop an event whose writer was killed in the middle of it; only for the lock's holder."""
        if self.events.exists():
            data = self.events.read_bytes()
            os.truncate(self.events, data.rfind(b"\n") + 1)

    def sent_bytes(self, uri: str | None = None) -> int:
        """How much of the events was sent: to the server `uri`, or to whichever was last."""
        with suppress(FileNotFoundError):
            sent = read_json(self.sent)
            return int(sent["bytes"]) if uri in (None, sent["uri"]) else 0
        return 0

    def unsent(self) -> int:
        """How many whole events no server has yet; none where they are thrown away meanwhile."""
        with suppress(FileNotFoundError):
            offset = self.sent_bytes()
            if self.events.stat().st_size > offset:
                return len(self.read(offset))
        return 0

    def ended(self) -> bool:
        """Whether the run's last event says that it ended."""
        events = self.read()
        return bool(events) and events[-1][0].get("status") in ENDED

    def empty(self) -> None:
        """Throw away events and files, the events first: without them there is nothing to send."""
        self.events.unlink(missing_ok=True)
        shutil.rmtree(self.files, ignore_errors=True)
        self.sent.unlink(missing_ok=True)


def tracking_folder(root: Path) -> Path:
    """Where the spools of the repository at `root` lie."""
    return root.resolve() / ".selftrain" / "tracking"


def spool_of(root: Path, run_key: str) -> Spool:
    """The spool of one run."""
    return Spool(tracking_folder(root) / "runs" / quote(run_key, safe="@-_"))


def all_spools(root: Path) -> list[Spool]:
    """The spools that hold events, in the order in which the work of their runs began."""
    found = [Spool(path.parent) for path in tracking_folder(root).glob("runs/*/events.jsonl")]
    return sorted(found, key=lambda spool: float(read_json(spool.header)["started"]))


def count_unsent(root: Path) -> int:
    """How many events of all spools no server has yet."""
    return sum(spool.unsent() for spool in all_spools(root))


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold the lock at `path` if nobody else does; yields whether it is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether another process, or another object of this one, holds the lock at `path`."""
    if not path.exists():
        return False
    with try_lock(path) as free:
        return not free


def _copy_or_link(source: str, target: str) -> None:
    """Copy; link what is too large to copy: such files are only ever replaced, never rewritten."""
    if Path(source).stat().st_size > COPY_BYTES:
        with suppress(OSError):  # another file system: the copy below says it if that fails too
            os.link(source, target)
            return
    shutil.copyfile(source, target)
