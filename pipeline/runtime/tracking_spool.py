"""The tracking spool: what stages log, kept on disk until MLflow has it.

A spool is one folder `.selftrain/tracking/<run key>/` for each tracked run:

    run.json      who the run is: keys, names, tags, experiment
    events.jsonl  what was logged, one JSON object a line, in order; only ever appended to
    files/        the artifacts as they were when they were logged, by digest
    sent.json     how many bytes of events.jsonl the server `uri` holds
    seen.json     what a wholly sent run had logged, once its events are thrown away
    lock          held by the tracker that writes; free again when its process ends, however it ends
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout

from pipeline.files import file_digest, read_json, value_digest, write_json

Event = dict[str, Any]

COPY_BYTES = 64 << 20
DONE = ("FINISHED", "FAILED", "KILLED")


def tracking_folder(root: Path) -> Path:
    """Where the spools of the repository at `root` lie."""
    return root.resolve() / ".selftrain" / "tracking"


@dataclass(frozen=True)
class Spool:
    """The files of one tracked run."""

    folder: Path

    @property
    def header(self) -> Path:
        return self.folder / "run.json"

    @property
    def events(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def files(self) -> Path:
        return self.folder / "files"

    @property
    def sent(self) -> Path:
        return self.folder / "sent.json"

    @property
    def seen(self) -> Path:
        return self.folder / "seen.json"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"


@dataclass
class Seen:
    """What a run has logged: the highest step of each metric, the digest of each artifact."""

    steps: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one more event."""
        if event["kind"] == "metrics":
            for name in event["values"]:
                self.steps[name] = max(event["step"], self.steps.get(name, event["step"]))
        elif "digest" in event:
            self.digests[event["target"]] = event["digest"]


def spool_of(root: Path, run_key: str) -> Spool:
    """The spool of one run."""
    return Spool(tracking_folder(root) / "runs" / quote(run_key, safe="@-_"))


def all_spools(root: Path) -> list[Spool]:
    """The spools that hold events, in the order in which their runs were first opened."""
    found = (tracking_folder(root) / "runs").glob("*/events.jsonl")
    dated = sorted(((path.parent / "run.json").stat().st_mtime_ns, path.parent) for path in found)
    return [Spool(folder) for _, folder in dated]


def read_events(spool: Spool, offset: int = 0) -> list[tuple[Event, int]]:
    """The whole events from byte `offset` on, each with the offset behind it."""
    try:
        with spool.events.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return []
    events, end = [], offset
    for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
        end += len(line)
        events.append((json.loads(line), end))
    return events


def append_event(spool: Spool, event: Event) -> None:
    """Append one event in a single write, or leave the file as it was; raises OSError."""
    line = (json.dumps(event) + "\n").encode()
    with spool.events.open("ab", buffering=0) as file:
        start = file.seek(0, os.SEEK_END)
        if file.write(line) != len(line):
            file.truncate(start)
            raise OSError(f"no space to write {spool.events}")


def cut_torn_line(spool: Spool) -> None:
    """Drop an event whose writer was killed in the middle of it; only for the lock's holder."""
    if spool.events.exists():
        data = spool.events.read_bytes()
        if data and not data.endswith(b"\n"):
            os.truncate(spool.events, data.rfind(b"\n") + 1)


def sent_bytes(spool: Spool, uri: str | None = None) -> int:
    """How much of the events was sent: to the server `uri`, or to whichever was last."""
    if not spool.sent.exists():
        return 0
    sent = read_json(spool.sent)
    return int(sent["bytes"]) if uri in (None, sent["uri"]) else 0


def unsent_events(spool: Spool) -> int:
    """How many whole events no server has yet; none of a spool that is compacted meanwhile."""
    try:
        offset = sent_bytes(spool)
        if spool.events.stat().st_size == offset:
            return 0
        return len(read_events(spool, offset))
    except FileNotFoundError:
        return 0


def is_finished(spool: Spool) -> bool:
    """Whether the run's last event says that it ended."""
    events = read_events(spool)
    return bool(events) and events[-1][0].get("status") in DONE


def load_seen(spool: Spool, uri: str) -> Seen:
    """What the run has logged to `uri`, or will have once its spool is sent."""
    seen = Seen()
    if spool.seen.exists():
        known = read_json(spool.seen)
        if known["uri"] == uri:
            seen = Seen(known["steps"], known["digests"])
    for event, _ in read_events(spool):
        seen.add(event)
    return seen


def compact(spool: Spool, uri: str) -> None:
    """Throw away the events and files of a wholly sent run; only for the lock's holder.

    In this order a kill in between loses nothing: what the run had logged is written first, and
    a spool without events has nothing to send.
    """
    seen = load_seen(spool, uri)
    write_json(spool.seen, {"uri": uri, "steps": seen.steps, "digests": seen.digests})
    spool.events.unlink()
    shutil.rmtree(spool.files, ignore_errors=True)
    spool.sent.unlink(missing_ok=True)


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


def content_digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a folder's files."""
    if not path.is_dir():
        return file_digest(path)
    files = sorted(each for each in path.rglob("*") if each.is_file())
    return value_digest({str(each.relative_to(path)): file_digest(each) for each in files})


def keep_file(spool: Spool, path: Path, digest: str) -> str:
    """Keep `path` (a file or a folder) as it is now; returns its place within the spool."""
    place = spool.files / digest[:16] / path.name
    if place.exists():
        return str(place.relative_to(spool.folder))
    partial = spool.files / f".{digest[:16]}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if path.is_dir():
        shutil.copytree(path, partial / path.name, copy_function=_copy_or_link)
    else:
        _copy_or_link(str(path), str(partial / path.name))
    shutil.rmtree(place.parent, ignore_errors=True)
    partial.replace(place.parent)
    return str(place.relative_to(spool.folder))


def _copy_or_link(source: str, target: str) -> None:
    """Copy; link what is too large to copy: such files are only ever replaced, never rewritten."""
    if Path(source).stat().st_size > COPY_BYTES:
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # another file system: the copy below says it if that fails too
    shutil.copyfile(source, target)


def clean_name(name: str) -> str:
    """`name` with what MLflow does not take in a metric or parameter name replaced by `_`."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)[:250]
