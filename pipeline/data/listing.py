"""Which files a source holds, as one digest: of their names and contents.

A file is read only where its size or time of change differs from what is remembered, so that a
million unchanged files are looked at in seconds.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.sources.files import is_system
from pipeline.errors import SourceError
from pipeline.files import file_digest, written_whole
from pipeline.progress import progress

REMEMBERED = pa.schema(
    [
        ("name", pa.binary()),
        ("size", pa.int64()),
        ("changed", pa.int64()),  # nanoseconds
        ("content", pa.binary(32)),
    ]
)
State = tuple[int, int, bytes]  # size, time of change, SHA-256 of the content


@dataclass(frozen=True)
class Listing:
    """What a source holds: regular files, their bytes, how many had to be read, and the digest of
    everything."""

    files: int
    bytes: int
    read: int
    digest: str


def list_source(path: str, remembered: Path, *, project: Path) -> Listing:
    """Look at all files of the source at `path`: of a folder, a glob, or beside a CSV.

    remembered: the Parquet file of what was found last, renewed; hidden and systems' files and
    folders are left out. Raises SourceError where nothing is there, or where the project's own
    folder is in it.
    """
    root, files = _files(path)
    if not files:
        raise SourceError(f"data.path = {path!r}: no such file or folder, or nothing in it")
    if root is not None:
        check_apart(root, project)
    before = _recall(remembered)
    found: dict[bytes, State] = {}
    unread = []
    for name in map(os.fsencode, files):
        now, known = _stat(name), before.get(name)
        is_known = known is not None and not now[2] and known[:2] == now[:2]
        found[name] = known if known is not None and is_known else now
        if not found[name][2]:
            unread.append(name)
    with (
        progress("scan", len(unread), "files") as advance,
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
    ):
        for name, content in zip(unread, pool.map(_content, unread), strict=True):
            found[name] = (*found[name][:2], content)
            advance()
    if found != before:
        _remember(remembered, found)
    return Listing(
        files=len(found),
        bytes=sum(size for size, _, _ in found.values()),
        read=len(unread),
        digest=_digest(found, root),
    )


def check_apart(images: Path, project: Path) -> None:
    """Raise SourceError where a folder of images holds the project's own."""
    if project.resolve().is_relative_to(images.resolve()):
        raise SourceError(
            f"data.path = {str(images)!r}: holds this project's own folder; put the images in one "
            "of their own"
        )


def _files(path: str) -> tuple[Path | None, list[str]]:
    """The folder that is listed, if one is, and its files."""
    where = Path(path)
    if where.is_dir():
        return where, list(_below(where))
    if where.is_file() and where.suffix.lower() != ".parquet":  # a table of images beside it
        return where.parent, list(_below(where.parent))
    return None, sorted(glob.glob(path, recursive=True))  # noqa: PTH207


def _below(root: Path) -> Iterator[str]:
    """All files below a folder, those of linked folders too, each folder once."""
    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.stat(folder)  # noqa: PTH116
        if (real.st_dev, real.st_ino) in seen:
            folders.clear()
            continue
        seen.add((real.st_dev, real.st_ino))
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
    return status.st_size, status.st_mtime_ns, b""


def _content(name: bytes) -> bytes:
    try:
        return bytes.fromhex(file_digest(Path(os.fsdecode(name))))
    except OSError as error:
        return _named(str(error.strerror))


def _named(reason: str) -> bytes:
    return hashlib.sha256(reason.encode()).digest()


def _digest(found: dict[bytes, State], root: Path | None) -> str:
    """Of names below the root and contents; neither times nor the place count."""
    digest = hashlib.sha256()
    start = 0 if root is None else len(os.fsencode(root)) + 1
    for name in sorted(found):
        digest.update(name[start:] + b"\0" + found[name][2])
    return digest.hexdigest()


def _recall(remembered: Path) -> dict[bytes, State]:
    try:
        columns = pq.read_table(remembered, schema=REMEMBERED).to_pydict()
    except (OSError, pa.ArrowException):
        return {}
    states = zip(columns["size"], columns["changed"], columns["content"], strict=True)
    return dict(zip(columns["name"], states, strict=True))


def _remember(remembered: Path, found: dict[bytes, State]) -> None:
    sizes, times, contents = zip(*found.values(), strict=True)
    columns = [list(found), sizes, times, contents]
    with written_whole(remembered) as partial:
        pq.write_table(pa.table(columns, schema=REMEMBERED), partial)
