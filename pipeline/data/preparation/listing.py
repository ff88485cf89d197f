"""Which files a source holds, as one digest: of their names and contents.

A file is read only where its size or time of change differs from the last listing, so that a
million unchanged files are listed in seconds.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.sources.files import is_system
from pipeline.errors import SourceError
from pipeline.files import file_digest, regular, written_whole
from pipeline.progress import progress

CACHE_SCHEMA = pa.schema(
    [
        ("name", pa.binary()),
        ("size", pa.int64()),
        ("changed", pa.int64()),  # nanoseconds
        ("content", pa.binary(32)),
    ]
)
State = tuple[int, int, bytes]  # size, time of change, SHA-256 of the content
SINGLE_FILES = (".parquet",)  # endings of sources that are one file each


@dataclass(frozen=True)
class Listing:
    """What a source holds: regular files, their bytes, how many had to be read, and the digest of
    everything."""

    files: int
    bytes: int
    read: int
    digest: str


def list_source(path: str, cache: Path, *, project: Path) -> Listing:
    """List all files of the source at `path`: of a folder, a glob, or beside a CSV.

    cache: the Parquet file of the last listing, renewed; hidden and systems' files and folders are
    left out. Raises SourceError where nothing is there, or where the project's own folder is in it.
    """
    root, files = _files(path)
    if not files:
        raise SourceError(f"data.path = {path!r}: no such file or folder, or nothing in it")
    check_apart(Path(path), project)
    cached = _read_cache(cache)
    states: dict[bytes, State] = {}
    unread = []
    for name in map(os.fsencode, files):
        state, last = _stat(name), cached.get(name)
        if not state[2] and last is not None and last[:2] == state[:2]:
            state = last
        states[name] = state
        if not state[2]:
            unread.append(name)
    with (
        progress("scan", len(unread), "files") as advance,
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
    ):
        for name, content in zip(unread, pool.map(_content, unread), strict=True):
            size, changed, _ = states[name]
            # What can't be read is tried again: access given to it changes neither size nor time.
            states[name] = (size, changed, content) if content else (-1, 0, UNREADABLE)
            advance()
    if states != cached:
        _write_cache(cache, states)
    return Listing(
        files=len(states),
        bytes=sum(size for size, _, _ in states.values()),
        read=len(unread),
        digest=_digest(states, root),
    )


def folder_of(path: Path) -> Path | None:
    """The folder that a source lies in as a whole: itself, or a table's; None of a single file."""
    if path.is_dir():
        return path
    return path.parent if path.is_file() and path.suffix.lower() not in SINGLE_FILES else None


def check_apart(path: Path, project: Path) -> None:
    """Raise SourceError where the images' folder holds the project's own."""
    root = folder_of(path)
    if root is not None and project.resolve().is_relative_to(root.resolve()):
        raise SourceError(
            f"data.path = {str(path)!r}: holds this project's own folder; put the images in one "
            "of their own"
        )


def _files(path: str) -> tuple[Path | None, list[str]]:
    """The folder that is listed, if one is, and its files."""
    where = Path(path)
    root = folder_of(where)
    if root is not None:
        return root, list(_below(root))
    if where.is_file():
        return None, [path]
    return None, sorted(glob.glob(path, recursive=True))  # noqa: PTH207


def _below(root: Path) -> Iterator[str]:
    """All files below a folder, those of linked folders too, each folder once."""
    visited = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.stat(folder)  # noqa: PTH116
        if (real.st_dev, real.st_ino) in visited:
            folders.clear()
            continue
        visited.add((real.st_dev, real.st_ino))
        folders[:] = sorted(name for name in folders if not is_system(name))
        yield from (f"{folder}{os.sep}{name}" for name in sorted(names) if not is_system(name))


def _stat(name: bytes) -> State:
    """Size, time, and no content yet; of what is no file that can be read the reason for it."""
    try:
        status = os.stat(name)  # noqa: PTH116
    except OSError as error:
        return 0, 0, _named(str(error.strerror))
    if not stat.S_ISREG(status.st_mode):
        return 0, 0, _named("not a regular file")
    return status.st_size, status.st_ctime_ns, b""  # no program can set it, as it can mtime


def _content(name: bytes) -> bytes:
    """Its digest; empty where it can't be read."""
    try:
        return bytes.fromhex(file_digest(Path(os.fsdecode(name))))
    except OSError:
        return b""


def _named(reason: str) -> bytes:
    return hashlib.sha256(reason.encode()).digest()


UNREADABLE = _named("unreadable")


def _digest(states: dict[bytes, State], root: Path | None) -> str:
    """Of names below the root and contents; neither times nor the place count."""
    digest = hashlib.sha256()
    start = 0 if root is None else len(os.fsencode(root)) + 1
    for name in sorted(states):
        digest.update(name[start:] + b"\0" + states[name][2])
    return digest.hexdigest()


def _read_cache(cache: Path) -> dict[bytes, State]:
    try:
        columns = pq.read_table(regular(cache), schema=CACHE_SCHEMA).to_pydict()
    except (OSError, pa.ArrowException):
        return {}
    states = zip(columns["size"], columns["changed"], columns["content"], strict=True)
    return dict(zip(columns["name"], states, strict=True))


def _write_cache(cache: Path, states: dict[bytes, State]) -> None:
    columns = [list(states), *zip(*states.values(), strict=True)]
    with written_whole(cache) as partial:
        pq.write_table(pa.table(columns, schema=CACHE_SCHEMA), partial)


def warn_of_git(images: Path, folder: Path) -> list[str]:
    """What to say where `images` lie below `folder`, a git repository's, and are not ignored."""
    if not images.exists() or not images.resolve().is_relative_to(folder.resolve()):
        return []
    below = images.resolve().relative_to(folder.resolve()).as_posix()
    command = ["git", "check-ignore", "--quiet", "--", below]
    try:
        status = subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode
    except OSError:  # no git
        return []
    if status != 1:  # 0: ignored; 128: no repository
        return []
    line = f"/{below}/" if images.is_dir() else f"/{below}"
    return [
        f"{below} lies in the repository, and git does not ignore it: git add -A would take the "
        f"images; add the line {line!r} to .gitignore"
    ]
