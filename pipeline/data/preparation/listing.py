"""Which files a source holds, as one digest: of their names and contents.

A file is read only where its size or time of change differs from the last listing, so that a
million unchanged files are listed in seconds. Of objects in a bucket, each of which would have to
be fetched, the digest is of names, sizes and times of change.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.data.trees.remote import RemoteTree
from pipeline.data.trees.tree import ending_of, is_remote, is_system, local_path
from pipeline.errors import SourceError
from pipeline.files import file_digest, regular, written_whole
from pipeline.progress import progress

STATE = np.dtype([("size", "i8"), ("changed", "i8"), ("content", "V32")])  # changed: nanoseconds
CACHE_SCHEMA = pa.schema(
    [
        ("name", pa.binary()),
        ("size", pa.int64()),
        ("changed", pa.int64()),
        ("content", pa.binary(32)),  # SHA-256
    ]
)
AT_ONCE = 1 << 14  # files whose names are objects of Python at a time
NOT_READ = bytes(32)
SINGLE_FILES = (".parquet",)  # endings of sources that are one file each


@dataclass(frozen=True)
class Listing:
    """What a source holds: regular files, their bytes, how many had to be read, and the digest of
    everything."""

    files: int
    bytes: int
    read: int
    digest: str


@dataclass(frozen=True)
class _Files:
    """Files by name, sorted: Arrow's array of names, below `root` where it is a folder, and (N,)
    STATE."""

    root: Path | None
    names: Any
    states: NDArray[Any]

    def batches(self) -> Iterator[tuple[list[bytes], NDArray[Any]]]:
        """A few of them at a time."""
        for first in range(0, len(self.names), AT_ONCE):
            rows = slice(first, first + AT_ONCE)
            yield self.names[rows].to_pylist(), self.states[rows]

    def path(self, name: bytes) -> bytes:
        return name if self.root is None else os.path.join(os.fsencode(self.root), name)  # noqa: PTH118


def list_source(path: str, cache: Path, *, project: Path) -> Listing:
    """List all files of the source at `path`: of a folder, a glob, or beside a CSV.

    cache: the Parquet file of the last listing, renewed; hidden and systems' files and folders are
    left out. Raises SourceError where nothing is there, or where the project's own folder is in it,
    StorageError where storage does not answer.
    """
    path = local_path(path)
    if is_remote(path):
        return _list_remote(path)
    root, names = _files(path)
    array = _sorted_names(map(os.fsencode, names))
    if not len(array):
        raise _nothing_there(path)
    check_apart(Path(path), project)
    files = _Files(root, array, np.zeros(len(array), STATE))
    same = _take_states(files, cache)
    read = _read_contents(files)
    if read or not same:
        _write_cache(cache, files)
    digest = hashlib.sha256()
    for some, states in files.batches():
        contents = states["content"].tolist()
        digest.update(b"".join(n + b"\0" + c for n, c in zip(some, contents, strict=True)))
    total = int(files.states["size"].sum())
    return Listing(files=len(array), bytes=total, read=read, digest=digest.hexdigest())


def _nothing_there(path: str) -> SourceError:
    return SourceError(f"data.path = {path!r}: no such file or folder, or nothing in it")


def _list_remote(path: str) -> Listing:
    """Names, sizes and times, in the order of the names."""
    tree, name = RemoteTree(path).place()
    single = ending_of(name) in SINGLE_FILES
    found = iter([(name, *tree.stat(name))]) if single else tree.files()
    names, states = list[Any](), list[NDArray[Any]]()
    while some := list(islice(found, AT_ONCE)):
        names.append(pa.array([name.encode() for name, _, _ in some], pa.binary()))
        states.append(np.array([each[1:] for each in some], np.int64))
    if not names:
        raise _nothing_there(path)
    array, numbers = pa.concat_arrays(names), np.concatenate(states)
    order = pc.sort_indices(array)
    digest = hashlib.sha256()
    for first in range(0, len(array), AT_ONCE):
        rows = order[first : first + AT_ONCE]
        pairs = zip(array.take(rows).to_pylist(), numbers[rows.to_numpy()].tolist(), strict=True)
        digest.update(b"".join(b"%b\0%d\0%d\0" % (name, *state) for name, state in pairs))
    total = int(numbers[:, 0].sum())
    return Listing(files=len(array), bytes=total, read=0, digest=digest.hexdigest())


def folder_of(path: Path) -> Path | None:
    """The folder that a source lies in as a whole: itself, or a table's; None of a single file."""
    if path.is_dir():
        return path
    return path.parent if path.is_file() and path.suffix.lower() not in SINGLE_FILES else None


def check_apart(path: Path, project: Path) -> None:
    """Raise SourceError where the images' folder holds the project's own."""
    root = folder_of(path)
    if root is not None and project.resolve().is_relative_to(root.resolve()):
        what = "holds" if root == path else "lies in a folder that holds"
        raise SourceError(
            f"data.path = {str(path)!r}: {what} this project's own folder; put the images in one "
            "of their own"
        )


def _files(path: str) -> tuple[Path | None, Iterable[str]]:
    """The folder that is listed, if one is, and its files."""
    where = Path(path)
    root = folder_of(where)
    if root is not None:
        return root, _below(root)
    if where.is_file():
        return None, [path]
    return None, sorted(glob.glob(path, recursive=True))  # noqa: PTH207


def _below(root: Path) -> Iterator[str]:
    """All files below a folder, those of linked folders too, each folder once; names below it."""
    visited, start = set(), len(os.path.join(root, ""))  # noqa: PTH118
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.stat(folder)  # noqa: PTH116
        if (real.st_dev, real.st_ino) in visited:
            folders.clear()
            continue
        visited.add((real.st_dev, real.st_ino))
        folders[:] = sorted(name for name in folders if not is_system(name))
        below = folder[start:]
        for name in names:
            if not is_system(name):
                yield f"{below}{os.sep}{name}" if below else name


def _sorted_names(names: Iterable[bytes]) -> Any:
    """Arrow's array of them."""
    names, arrays = iter(names), [pa.array([], pa.binary())]
    while some := list(islice(names, AT_ONCE)):
        arrays.append(pa.array(some, pa.binary()))
    array = pa.concat_arrays(arrays)
    return array.take(pc.sort_indices(array))


def _take_states(files: _Files, cache: Path) -> bool:
    """Note the state of each file, and its content where it is as the cache, sorted as well, has
    it; whether all of them are."""
    cached, same = _read_cache(cache), True
    last = next(cached, None)
    for names, states in files.batches():
        for row, name in enumerate(names):
            size, changed, content = _stat(files.path(name))
            while last is not None and last[0] < name:
                last, same = next(cached, None), False
            known = last is not None and last[0] == name
            if last is not None and known and not content and last[1:3] == (size, changed):
                content = last[3]
            same = same and known and last is not None and last[1:] == (size, changed, content)
            last = next(cached, None) if known else last
            states[row] = (size, changed, content or NOT_READ)
    return same and last is None


def _read_contents(files: _Files) -> int:
    """Read the files whose contents are not known; how many."""
    unread = np.flatnonzero(files.states["content"] == np.void(NOT_READ))
    with (
        progress("scan", len(unread), "files") as advance,
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
    ):
        for first in range(0, len(unread), AT_ONCE):
            rows = unread[first : first + AT_ONCE]
            paths = [files.path(files.names[row].as_py()) for row in rows.tolist()]
            for row, content in zip(rows.tolist(), pool.map(_content, paths), strict=True):
                if content:
                    files.states["content"][row] = content
                else:  # tried again: access given to it changes neither size nor time
                    files.states[row] = (-1, 0, UNREADABLE)
                advance()
    return len(unread)


def _stat(name: bytes) -> tuple[int, int, bytes]:
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


def _read_cache(cache: Path) -> Iterator[tuple[bytes, int, int, bytes]]:
    """Name, size, time of change and content of each file of the last listing."""
    try:
        with pq.ParquetFile(regular(cache)) as file:
            if file.schema_arrow.names != CACHE_SCHEMA.names:
                return
            for batch in file.iter_batches(AT_ONCE):
                columns = [batch.column(name).to_pylist() for name in CACHE_SCHEMA.names]
                yield from zip(*columns, strict=True)
    except (OSError, pa.ArrowException):
        return


def _write_cache(cache: Path, files: _Files) -> None:
    with (
        written_whole(cache) as partial,
        pq.ParquetWriter(partial, CACHE_SCHEMA) as writer,
    ):
        for first in range(0, len(files.names), AT_ONCE):
            rows = slice(first, first + AT_ONCE)
            states = files.states[rows]
            columns = [files.names[rows], states["size"], states["changed"]]
            contents = pa.array(states["content"].tolist(), pa.binary(32))
            writer.write_table(pa.table([*columns, contents], schema=CACHE_SCHEMA))


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
