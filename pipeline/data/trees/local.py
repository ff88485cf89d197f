"""Files below a folder of this machine, or of one that all machines mount."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data.decoding import is_image
from pipeline.data.images import endings
from pipeline.data.trees.tree import REASON_OF, FolderEntries, ending_of, not_an_image
from pipeline.errors import SourceError
from pipeline.files import open_regular, read_bytes, regular

NEVER_OPENED = {end for end, reason in REASON_OF.items() if "raw file" in reason}


@dataclass(frozen=True)
class LocalTree:
    """The files below `root`, links to files and folders among them."""

    root: Path

    def __reduce__(self) -> tuple[type[LocalTree], tuple[Path]]:
        """Another process may work in another folder."""
        return LocalTree, (self.root.absolute(),)

    def path(self, name: str) -> Path:
        """That of a file or folder."""
        return self.root / name

    def where(self, name: str) -> str:
        """As Tree has it."""
        return str(self.path(name))

    def lister(self) -> Callable[[str], FolderEntries]:
        """As Tree has it."""
        return self._entries

    def _entries(self, folder: str) -> FolderEntries:
        names, folders, links = list[str](), set[str](), set[str]()
        try:
            with os.scandir(self.path(folder)) as entries:
                for entry in entries:
                    names.append(entry.name)
                    if _is_folder(entry):
                        folders.add(entry.name)
                        links.update({entry.name} if entry.is_symlink() else ())
        except OSError as error:
            raise SourceError(
                f"{error.filename}: can't be read ({error.strerror}); give access to it"
            ) from None
        return FolderEntries(sorted(names), frozenset(folders), frozenset(links))

    def files_below(self, folder: str) -> Iterator[str]:
        """As Tree has it."""
        for parent, _, files in os.walk(self.path(folder)):
            yield from (Path(parent, name).relative_to(self.root).as_posix() for name in files)

    def leads_elsewhere(self, folder: str, others: dict[str, str]) -> bool:
        """As Tree has it."""
        path = self.path(folder)
        target = path.resolve()
        if _overlap(target, self.root.resolve()):
            return False
        for other, first in others.items():
            if _overlap(target, Path(other)):
                raise SourceError(
                    f"{path}: holds images of {self.where(first)} too; remove one of the links"
                )
        others[str(target)] = folder
        return True

    def reason_left_out(self, name: str) -> str | None:
        """None for a picture by its ending, or by its content."""
        ending = path_text(ending_of(name))
        if ending in endings():
            return None
        path = self.path(name)
        try:
            with open_regular(path):
                pass
            if ending not in NEVER_OPENED and is_image(path):
                return None
        except OSError as error:
            return _problem(error)
        return not_an_image(ending)

    def read(self, name: str) -> tuple[bytes, str | None]:
        """As Tree has it."""
        return read_image(self.path(name))

    def reads(self, names: Iterable[str]) -> Iterator[tuple[bytes, str | None]]:
        """As Tree has it."""
        return map(self.read, names)

    def is_file(self, name: str) -> bool:
        """Whether there is such a file; raises OSError for a name that can be no file's."""
        return self.path(name).is_file()

    def inside(self, folder: str, name: str) -> str | None:
        """As Tree has it; links may lead elsewhere."""
        start = self.path(folder)
        written = start / (name if _exists(start / name) else name.replace("\\", "/"))
        inside = Path(os.path.relpath(written, self.root))
        outside = inside.is_absolute() or inside.parts[:1] == ("..",)
        return None if outside else inside.as_posix()

    @contextmanager
    def opened(self, name: str) -> Iterator[tuple[Any, int]]:
        """As Tree has it."""
        with open_regular(self.path(name)) as opened:
            yield opened

    def source(self, name: str) -> Any:
        """As Tree has it."""
        return regular(self.path(name))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long for a file's
        return False


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def read_image(path: Path) -> tuple[bytes, str | None]:
    """The bytes of a regular file, or the problem that kept them away."""
    try:
        return read_bytes(path), None
    except OSError as error:
        return b"", _problem(error)


def _problem(error: OSError) -> str:
    own = error.errno in (errno.EINVAL, errno.EFBIG)  # open_regular's and read_bytes' words
    return str(error.strerror) if own else f"unreadable: {error.strerror}"


def name_below(root: Path, path: Path) -> str:
    """The path below a folder, as text, with forward slashes: an id."""
    return path_text(path.relative_to(root).as_posix())


def path_text(name: str) -> str:
    """A file name as text, bytes that are not UTF-8 written as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
