"""From what a table calls a file to the file: as written, without its ending or its folders."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath

from pipeline.data.sources.files import SYSTEM, Walk, is_system, name_below, reason_left_out
from pipeline.data.sources.layout import part_of
from pipeline.data.sources.rows import SPLITS
from pipeline.data.sources.table import Table
from pipeline.errors import SourceError

VALUES_COMPARED = 50  # of a column, evenly spread, compared with the files
MISSING = "unreadable: No such file or directory"
FOLDERS_COMPARED = 32  # that all paths begin with
LONGEST_PATH, MOST_FOLDERS = 4096, 256  # of a name that may be a file's
LEADING = 0.5  # share of them that lead to files, where a column is one of paths


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file, and why it can't be used, or why there is none; several: there are too many."""

    path: Path | None
    problem: str | None = None
    several: bool = False


NO_FILE = NamedFile(None, MISSING)


@dataclass(frozen=True)
class Lead:
    """A column whose values lead to files, once `prefix` is taken off each."""

    column: str
    prefix: str = ""

    def names(self, table: Table) -> list[str]:
        """The column's values without the prefix, whichever way their slashes lean."""
        return [_without(self.prefix, value) for value in table.values(self.column)]


class NamedFiles:
    """The files below the folder `root`, by what a table in it calls them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def walk(self) -> Walk:
        """All of them, looked up where a name does not lead to its file directly."""
        return Walk(self.root)

    def name(self, path: Path) -> str:
        """The path below the root, as an id."""
        return name_below(self.root, path)

    def pictures(self) -> list[Path]:
        """All pictures below the root, sorted."""
        return sorted(self.walk.tree.pictures())

    def find(self, name: str, table: Table, row: int) -> NamedFile:
        """The file of that name in a row; raises SourceError where it lies outside the folder."""
        if not name:
            raise SourceError(f"{table.where(row)}: no path")
        file = self._file(name, table.path.parent, part_of(table.path.stem))
        if file is None:
            raise SourceError(
                f"{table.where(row)}: path = {name!r} lies outside the folder of images; "
                "move the table to a folder that holds all images"
            )
        return file

    def lead(self, table: Table, columns: list[str] | None = None) -> Lead | None:
        """The first column whose values lead to files, as they stand before those that do so
        without the folders that all of them begin with; None where there is none."""
        part = part_of(table.path.stem)
        samples = {column: _sample(table.values(column)) for column in columns or table.columns}
        whole = [(column, "") for column in samples]
        cut = [(name, prefix) for name in samples for prefix in _prefixes(table.values(name))]
        for column, prefix in [*whole, *cut]:
            names = [_without(prefix, value) for value in samples[column]]
            leading = sum(self.leads_to_file(name, table, part) for name in names)
            if leading and leading >= LEADING * len(names):
                return Lead(column, prefix)
        return None

    def leads_to_file(self, name: str, table: Table, part: str | None = None) -> bool:
        """Whether there is a file of that name, or several; part: the one that the table is of."""
        file = self._file(name, table.path.parent, part) if name else None
        return file is not None and (file.path is not None or file.several)

    def split_of(self, path: Path) -> str | None:
        """The split that the folders above a file are named for; None for none."""
        names = path.parent.relative_to(self.root).parts
        return next((part for name in names if (part := part_of(name)) in SPLITS), None)

    def _file(self, name: str, start: Path, part: str | None) -> NamedFile | None:
        """What `name` leads to from the folder `start`; None where it is outside the root, though
        links may lead elsewhere."""
        if "\0" in name:
            return None
        if len(name) > LONGEST_PATH or sum(map(name.count, "/\\")) > MOST_FOLDERS:
            return NO_FILE
        written = start / (name if _exists(start / name) else name.replace("\\", "/"))
        inside = Path(os.path.relpath(written, self.root))
        if inside.is_absolute() or inside.parts[:1] == ("..",):
            return None
        below = PurePosixPath(os.path.relpath(written, start))
        direct = Path(os.path.normpath(start / below))
        try:
            if direct.is_file():
                hidden = any(map(is_system, direct.relative_to(self.root).parts))
                return NamedFile(direct, SYSTEM if hidden else reason_left_out(direct))
        except OSError:  # a name too long for a file's
            return NO_FILE
        similar = self._similar(below, part)
        if len(similar) > 1:
            names = ", ".join(map(self.name, similar[:2]))
            return NamedFile(None, f"several files of that name ({names})", several=True)
        return NamedFile(similar[0]) if similar else NO_FILE

    def _similar(self, below: PurePosixPath, part: str | None) -> list[Path]:
        """The files whose path ends so, or does but for its ending, or for its letters' case and
        form; none in the folder of another split than the table's, those of its own first."""
        for name in (below.name, f"{below.name}.", _folded(below.name)):
            tail = _folded(f"/{below.parent / name}".replace("/./", "/"))
            files = [
                path
                for path in self._by_name.get(name, [])
                if _folded(f"{path.parent.as_posix()}/{name}").endswith(tail)
            ]
            if part in SPLITS:
                files = [path for path in files if self.split_of(path) in (None, part)]
                files = [path for path in files if self.split_of(path) == part] or files
            if files:
                return files
        return []

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        """Pictures by name, by name without ending, which ends in a dot, and by folded name."""
        files: dict[str, list[Path]] = {}
        for path in self.pictures():
            for name in {path.name, f"{path.stem}.", _folded(path.name)}:
                files.setdefault(name, []).append(path)
        return files


def _folded(name: str) -> str:
    """A name to compare: its letters in one case and one form of Unicode."""
    return unicodedata.normalize("NFC", name).casefold()


def _without(prefix: str, name: str) -> str:
    return name.replace("\\", "/").removeprefix(prefix) if prefix else name


def _sample(values: list[str]) -> list[str]:
    """Some of the values that are not empty, evenly spread."""
    values = [value for value in values if value]
    return values[:: max(1, len(values) // VALUES_COMPARED)]


def _prefixes(values: list[str]) -> Iterator[str]:
    """The folders that all paths begin with, as text up to a slash: the fewest first."""
    names = [value.replace("\\", "/") for value in values if value]
    common = os.path.commonprefix(names)  # noqa: RUF071 - by characters
    prefixes = (common[: place + 1] for place, letter in enumerate(common) if letter == "/")
    return islice(prefixes, FOLDERS_COMPARED)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long for a file's
        return False
