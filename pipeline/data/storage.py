"""Folders in shared storage: file://, s3:// and gs:// through pyarrow's file systems.

An object is written whole or not at all: renamed to its name on a file system, completed by its
upload on an object store. Credentials come from the environment, never from the address.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.errors import DataError, ParameterError, StorageError
from pipeline.files import written_whole

PROBE = ".probe"


@dataclass(frozen=True)
class StoredObject:
    """What a listing says of an object: its path below the listed folder, bytes, and time."""

    path: str
    size: int
    written: datetime


@dataclass(frozen=True)
class StoredFolder:
    """A folder in storage by its address; it travels to other processes as that alone."""

    uri: str

    def __truediv__(self, name: str) -> StoredFolder:
        """The folder `name` in this one; what follows a "?" in the address stays behind it."""
        address, mark, query = self.uri.partition("?")
        return StoredFolder(f"{address.rstrip('/')}/{name}{mark}{query}")

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.uri.partition("?")[0].rstrip("/").rpartition("/")[2]

    def object_uri(self, name: str) -> str:
        """The address of an object of this folder, for messages."""
        return (self / name).uri.partition("?")[0]

    def write(self, name: str, data: Any) -> None:
        """Write bytes, or a buffer, to the object `name`; raises StorageError."""
        fs, path = self._opened()
        with named_errors(self.object_uri(name)):
            if fs.type_name == "local":
                with written_whole(Path(path) / name) as partial:
                    partial.write_bytes(data)
            else:
                # One call: a stream that is closed half written would leave half an object.
                with fs.open_output_stream(f"{path}/{name}") as stream:
                    stream.write(data)

    def write_file(self, name: str, path: Path) -> None:
        """Write what a file holds to the object `name`; raises StorageError."""
        with pa.memory_map(str(path)) as file:
            self.write(name, file.read_buffer())

    def read(self, name: str) -> Any:
        """The whole object as a `pyarrow.Buffer`.

        Raises FileNotFoundError where there is none, StorageError where storage fails.
        """
        fs, path = self._opened()
        with named_errors(self.object_uri(name)), fs.open_input_file(f"{path}/{name}") as file:
            return file.read_buffer()

    def open(self, name: str) -> Any:
        """The object as an open file that is read in parts; raises as `read`."""
        fs, path = self._opened()
        with named_errors(self.object_uri(name)):
            return fs.open_input_file(f"{path}/{name}")

    def listing(self) -> list[StoredObject]:
        """Every object in and below the folder, by path; none where there is no such folder."""
        from pyarrow.fs import FileSelector, FileType

        fs, path = self._opened()
        with named_errors(self.uri):
            infos = fs.get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
        objects = [
            StoredObject(item.path[len(path) :].lstrip("/"), item.size, item.mtime)
            for item in infos
            if item.type == FileType.File
        ]
        return sorted(objects, key=lambda item: item.path)

    def sizes(self) -> dict[str, int]:
        """The bytes of each object directly in the folder, by name."""
        return {item.path: item.size for item in self.listing() if "/" not in item.path}

    def size(self, name: str) -> int | None:
        """The bytes of one object, None where there is none."""
        fs, path = self._opened()
        with named_errors(self.object_uri(name)):
            size: int | None = fs.get_file_info(f"{path}/{name}").size
        return size

    def remove(self, name: str) -> None:
        """Remove one object; nothing where there is none."""
        fs, path = self._opened()
        with named_errors(self.object_uri(name)), suppress(FileNotFoundError):
            fs.delete_file(f"{path}/{name}")

    def remove_all(self) -> None:
        """Remove the folder and everything in it."""
        fs, path = self._opened()
        with named_errors(self.uri), suppress(FileNotFoundError):
            fs.delete_dir(path)

    def clock(self) -> datetime:
        """The time by the storage's own clock: that of an object which is written for this."""
        fs, path = self._opened()
        name = f"{PROBE}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.write(name, b"selftrain\n")
        with named_errors(self.object_uri(name)):
            written: datetime = fs.get_file_info(f"{path}/{name}").mtime
        self.remove(name)
        return written

    def _opened(self) -> tuple[Any, str]:
        return filesystem(self.uri)


@contextmanager
def written_in(place: Path | StoredFolder, name: str) -> Iterator[Path]:
    """Yield a path; on success what was written to it is the file, or object, `name` of a folder.

    Only a file of the machine's own, not memory, holds what goes to storage.
    """
    if isinstance(place, Path):
        with written_whole(place / name) as partial:
            yield partial
    else:
        with tempfile.TemporaryDirectory(prefix="selftrain-") as folder:
            path = Path(folder) / name
            yield path
            place.write_file(name, path)


def open_storage(url: str | None, *, write: bool = True) -> StoredFolder | None:
    """The folder at `url`, found to answer and, to `write`, to take objects; None for no storage.

    Raises ParameterError for an address that pyarrow can't make sense of, StorageError where it
    does not answer, or is a bucket that does not exist or can't be written to.
    """
    if url is None:
        return None
    root = StoredFolder(url)
    fs, path = filesystem(url)
    with named_errors(url):
        if fs.type_name != "local":
            _check_bucket(fs, url, path.partition("/")[0])
    if write:
        root.clock()
    return root


def _check_bucket(fs: Any, url: str, bucket: str) -> None:
    from pyarrow.fs import FileType

    if fs.get_file_info(bucket).type == FileType.NotFound:
        raise StorageError(f"storage.url = {url}: there is no bucket {bucket!r}; make it first")


@lru_cache(maxsize=1024)
def filesystem(uri: str, name: str = "storage.url") -> tuple[Any, str]:
    """pyarrow's file system for an address, and the path in it; name: of the parameter that it is
    of. Raises ParameterError, and StorageError where it does not answer."""
    from pyarrow.fs import FileSystem

    try:
        fs, path = FileSystem.from_uri(uri)
    except (pa.ArrowException, ValueError) as error:
        raise ParameterError(f"{name} = {uri}: {_reason(error)}") from None
    except OSError as error:
        raise StorageError(f"{uri}: storage does not answer ({_reason(error)})") from None
    return fs, path.rstrip("/")


@contextmanager
def named_errors(uri: str) -> Iterator[None]:
    """Turn what pyarrow raises into one line that names the address."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{uri}: storage does not do as asked ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def missing(uri: str, named_by: Path) -> DataError:
    """The error for an object that a manifest names and storage does not hold."""
    return DataError(
        f"{uri}: missing, though {named_by} names it; run its stage again: "
        "selftrain run -- --force --single-item STAGE"
    )
