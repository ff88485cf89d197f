"""Objects below an address in a bucket, s3:// or gs://, through pyarrow's file systems.

Credentials come from the environment of whichever process reads. An image is known by its ending:
to tell one by its content would take a request for every other object.
"""

from __future__ import annotations

import errno
import posixpath
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from itertools import pairwise
from typing import Any

from pipeline.data.images import endings
from pipeline.data.storage import filesystem, named_errors
from pipeline.data.trees.tree import (
    DEEPEST,
    FolderEntries,
    below,
    ending_of,
    is_system,
    not_an_image,
    parent_and_name,
)
from pipeline.errors import SourceError
from pipeline.files import LARGEST_FILE

LISTED_AT_ONCE = 16  # folders: an answer takes some 50 ms and has up to 1,000 names
READ_AT_ONCE = 16  # images, of a task
BUFFER = 1 << 20
GONE = "unreadable: No such file or directory"
OF_THE_OBJECT = (  # what is said of one object alone, in the words of AWS and Google
    "NO_SUCH_KEY",
    "RESOURCE_NOT_FOUND",
    "INVALID_OBJECT_STATE",  # in an archive
    "ACCESS_DENIED",
    "PERMISSION_DENIED",
)


@dataclass(frozen=True)
class RemoteTree:
    """The objects below the folder at `address`."""

    address: str

    def where(self, name: str) -> str:
        """As Tree has it."""
        return "/".join(filter(None, [self.address.partition("?")[0].rstrip("/"), name]))

    def place(self) -> tuple[RemoteTree, str]:
        """The same and "", or, of an object, the folder that it is in and the object's name; raises
        SourceError where there is neither, and StorageError for no answer."""
        from pyarrow.fs import FileType

        fs, path = self._opened()
        bucket = path.partition("/")[0]
        with named_errors(self.where("")):
            kinds = [info.type for info in fs.get_file_info([path, bucket])]
        if kinds[1] == FileType.NotFound:
            raise SourceError(f"data.path = {self.where('')}: there is no bucket {bucket!r}")
        if kinds[0] == FileType.File:
            folder, name = parent_and_name(self.address)
            return RemoteTree(folder), name
        if kinds[0] == FileType.NotFound:
            what = "patterns are for folders of a machine; give the folder" if "*" in path else ""
            raise SourceError(
                f"data.path = {self.where('')}: {what or 'no such folder, and no such object'}"
            )
        return self, ""

    def lister(self) -> Callable[[str], FolderEntries]:
        """As Tree has it; all folders are listed at the first call, several at once."""
        return {folder: entries for folder, entries, _ in self._folders()}.pop

    def files(self) -> Iterator[tuple[str, int, int]]:
        """Name, bytes and time of change, in nanoseconds, of all objects that are not hidden."""
        for folder, _, infos in self._folders():
            for info in infos:
                if info.is_file and not is_system(info.base_name):
                    yield below(folder, info.base_name), info.size, info.mtime_ns

    def stat(self, name: str) -> tuple[int, int]:
        """Bytes and time of change, in nanoseconds, of an object; raises SourceError for none."""
        fs, _ = self._opened()
        with named_errors(self.where(name)):
            info = fs.get_file_info(self._key(name))
        if not info.is_file:
            raise SourceError(f"data.path = {self.where(name)}: no such object")
        return info.size, info.mtime_ns

    def _folders(self) -> Iterator[tuple[str, FolderEntries, list[Any]]]:
        """All folders that are not hidden, those above first, with what is directly in them."""
        level = [""]
        with ThreadPoolExecutor(LISTED_AT_ONCE) as pool:
            for _ in range(DEEPEST + 2):
                found = list[str]()
                for folder, infos in zip(level, pool.map(self._infos, level), strict=True):
                    entries = self._entries(folder, infos)
                    yield folder, entries, infos
                    inner = sorted(name for name in entries.folders if not is_system(name))
                    found += [below(folder, name) for name in inner]
                level = found

    def _infos(self, folder: str) -> list[Any]:
        from pyarrow.fs import FileSelector

        fs, _ = self._opened()
        with named_errors(self.where(folder)):
            found: list[Any] = fs.get_file_info(
                FileSelector(self._key(folder), allow_not_found=True)
            )
        return found

    def _entries(self, folder: str, infos: list[Any]) -> FolderEntries:
        from pyarrow.fs import FileType

        names = sorted(info.base_name for info in infos)
        folders = {info.base_name for info in infos if info.type == FileType.Directory}
        if any(info.path != self._key(below(folder, info.base_name)) for info in infos):
            raise SourceError(
                f"{self.where(folder)}: an object below it has // in its key, which nothing can "
                "open; rename or remove it"
            )
        for name, following in pairwise(names):
            if name == following:
                raise SourceError(
                    f"{self.where(below(folder, name))}: is an object and a folder; rename one"
                )
        return FolderEntries(names, frozenset(folders))

    def files_below(self, folder: str) -> Iterator[str]:
        """As Tree has it."""
        from pyarrow.fs import FileSelector

        fs, path = self._opened()
        with named_errors(self.where(folder)):
            infos = fs.get_file_info(FileSelector(self._key(folder), recursive=True))
        return (info.path[len(path) + 1 :] for info in infos if info.is_file)

    def leads_elsewhere(self, folder: str, others: dict[str, str]) -> bool:
        """As Tree has it; there are no links."""
        return True

    def reason_left_out(self, name: str) -> str | None:
        """None for a picture by its ending."""
        return None if (ending := ending_of(name)) in endings() else not_an_image(ending)

    def read(self, name: str) -> tuple[bytes, str | None]:
        """As Tree has it: an object that is gone, or that may not be read, is a problem."""
        try:
            with self._native(name) as file:
                if file.size() > LARGEST_FILE:
                    return b"", f"larger than {LARGEST_FILE >> 20} MiB"
                return bytes(file.readall()), None
        except OSError as error:
            return b"", GONE if error.errno == errno.ENOENT else f"unreadable: {error.strerror}"

    def reads(self, names: Iterable[str]) -> Iterator[tuple[bytes, str | None]]:
        """As Tree has it."""
        waiting = deque[Future[tuple[bytes, str | None]]]()
        with ThreadPoolExecutor(READ_AT_ONCE) as pool:
            try:
                for name in names:
                    waiting.append(pool.submit(self.read, name))
                    if len(waiting) == READ_AT_ONCE:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def inside(self, folder: str, name: str) -> str | None:
        """As Tree has it; an address below the root's is inside too."""
        own = f"{self.where('')}/"
        if name.startswith(own):
            folder, name = "", name.removeprefix(own)
        inside = posixpath.normpath(posixpath.join(folder, name.replace("\\", "/")))
        return None if inside.startswith(("/", "../")) or inside == ".." else inside

    @contextmanager
    def opened(self, name: str) -> Iterator[tuple[Any, int]]:
        """As Tree has it."""
        with self._native(name) as file:
            yield BufferedReader(file, BUFFER), file.size()

    @contextmanager
    def _native(self, name: str) -> Iterator[Any]:
        """Arrow's file, whose errors from the network have no numbers; raises as `opened`."""
        fs, _ = self._opened()
        try:
            with fs.open_input_file(self._key(name)) as file:
                yield file
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory") from error
        except OSError as error:
            if error.errno is not None:  # our own, of what is done with the file
                raise
            self._check_own(name, error)
            raise OSError(errno.EACCES, "storage does not give it") from error

    def _check_own(self, name: str, error: OSError) -> None:
        """Raise StorageError where an error is not one object's, as with expired credentials: with
        these nothing can be listed either."""
        with named_errors(self.where(name)):
            if not any(each in str(error) for each in OF_THE_OBJECT):
                raise error
        self.place()

    def source(self, name: str) -> Any:
        """As Tree has it."""
        with self._native(name) as file:
            if not file.size():
                raise OSError(errno.ENODATA, "empty", self.where(name))
        return self._opened()[0].open_input_file(self._key(name))

    def _key(self, name: str) -> str:
        return "/".join(filter(None, [self._opened()[1], name]))

    def _opened(self) -> tuple[Any, str]:
        opened: tuple[Any, str] = filesystem(self.address, "data.path")
        return opened
