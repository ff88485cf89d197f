"""From what a table calls a file to the file: as written, without its ending or its folders."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from pipeline.data.sources.files import SYSTEM, Walk, is_system, name_below, reason_left_out
from pipeline.data.sources.layout import SPLITS, part_of
from pipeline.data.sources.table import Table
from pipeline.errors import SourceError

CHECKED = 50  # rows of a column, evenly spread, compared with the files
MISSING = "unreadable: No such file or directory"
LEADING = 0.5  # share of them that lead to files, where a column is one of paths


@dataclass(frozen=True)
class Found:
    """A file, and why it can't be used, or why there is none; several: there are too many."""

    path: Path | None
    problem: str | None = None
    several: bool = False


@dataclass(frozen=True)
class Lead:
    """A column whose values lead to files, once what `prefix` says is taken off each."""

    column: str
    prefix: str = ""


class NamedFiles:
    """The files below the folder `root`, by what names them in a table that lies in it."""

    def __init__(self, root: Path) -> None:
        self.root, self._start = root, root

    def named_in(self, folder: Path) -> NamedFiles:
        """The same for a table in a folder below the root; what was walked is not walked again."""
        other = copy(self)
        other._start = folder
        return other

    @cached_property
    def walk(self) -> Walk:
        """All of them, looked up where a name does not lead to its file directly."""
        return Walk(self.root)

    def name(self, path: Path) -> str:
        """The path below the root, as an id."""
        return name_below(self.root, path)

    def pictures(self) -> Iterator[Path]:
        """All pictures below the root, sorted."""
        return iter(sorted(self.walk.tree.pictures()))

    def find(self, name: str, table: Table, row: int) -> Found:
        """The file of that name in a row; raises SourceError where it lies outside the folder."""
        if not name:
            raise SourceError(f"{table.where(row)}: no path")
        below = self._below(name)
        if below is None:
            raise SourceError(
                f"{table.where(row)}: path = {name!r} lies outside the folder of images; "
                "move the table to a folder that holds all images"
            )
        return self._found(below, part_of(table.path.stem))

    def leads(self, table: Table, columns: list[str] | None = None) -> Lead | None:
        """The first column whose values lead to files, as they stand before those that do so
        without the folders that all of them begin with; None where there is none."""
        part = part_of(table.path.stem)
        samples = {column: _sample(table.values(column)) for column in columns or table.columns}
        for column, sample in samples.items():
            if self._share(sample, part) >= LEADING:
                return Lead(column)
        for column, sample in samples.items():
            for prefix in _prefixes(table.values(column)):
                if self._share([without(prefix, value) for value in sample], part) >= LEADING:
                    return Lead(column, prefix)
        return None

    def _share(self, sample: list[str], part: str | None) -> float:
        return sum(self.leads_to_file(name, part) for name in sample) / max(1, len(sample))

    def leads_to_file(self, value: str, part: str | None = None) -> bool:
        """Whether there is a file of that name, or several; `part`: the one that a table is of."""
        below = self._below(value) if value else None
        if below is None:
            return False
        found = self._found(below, part)
        return found.path is not None or found.several

    def split_of(self, path: Path) -> str | None:
        """The split that the folders above a file are named for; None for none."""
        names = path.parent.relative_to(self.root).parts
        return next((part for name in names if (part := part_of(name)) in SPLITS), None)

    def _below(self, name: str) -> PurePosixPath | None:
        """`name` as a path below the start; None where it is none below the root. Links may lead
        elsewhere."""
        if "\0" in name:
            return None
        written = name if _exists(self._start / name) else name.replace("\\", "/")
        inside = Path(os.path.relpath(self._start / written, self.root))
        if inside.is_absolute() or inside.parts[:1] == ("..",):
            return None
        return PurePosixPath(os.path.relpath(self._start / written, self._start))

    def _found(self, below: PurePosixPath, part: str | None) -> Found:
        direct = Path(os.path.normpath(self._start / below))
        try:
            if direct.is_file():
                return self._usable(direct)
        except OSError:  # a name too long for a file's
            return Found(None, MISSING)
        fit = self._like(below, part)
        if len(fit) > 1:
            names = ", ".join(map(self.name, fit[:2]))
            return Found(None, f"several files of that name ({names})", several=True)
        return Found(fit[0]) if fit else Found(None, MISSING)

    def _usable(self, path: Path) -> Found:
        hidden = any(map(is_system, path.relative_to(self.root).parts))
        reason = SYSTEM if hidden else reason_left_out(path)
        return Found(path, reason)

    def _like(self, below: PurePosixPath, part: str | None) -> list[Path]:
        """The files whose path ends so, or does but for its ending, or for its letters' case and
        form; none in the folder of another split than the table's, those of its own first."""
        for name in (below.name, f"{below.name}.", _plain(below.name)):
            tail = _plain(f"/{below.parent / name}".replace("/./", "/"))
            fit = [
                path
                for path in self._by_name.get(name, [])
                if _plain(f"{path.parent.as_posix()}/{name}").endswith(tail)
            ]
            if fit and part in SPLITS:
                fit = [path for path in fit if self.split_of(path) in (None, part)]
                fit = [path for path in fit if self.split_of(path) == part] or fit
            if fit:
                return fit
        return []

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        """Pictures by name, by name without ending, which ends in a dot, and by plain name."""
        found: dict[str, list[Path]] = {}
        for path in self.pictures():
            for name in dict.fromkeys((path.name, f"{path.stem}.", _plain(path.name))):
                found.setdefault(name, []).append(path)
        return found


def _plain(name: str) -> str:
    """A name to compare: its letters in one case and one form of Unicode."""
    return unicodedata.normalize("NFC", name).casefold()


def without(prefix: str, name: str) -> str:
    """A path without the folders at its beginning, whichever way its slashes lean."""
    return name.replace("\\", "/").removeprefix(prefix) if prefix else name


def _sample(values: list[str]) -> list[str]:
    """Some of the values that are not empty, evenly spread."""
    values = [value for value in values if value]
    return values[:: max(1, len(values) // CHECKED)]


def _prefixes(values: list[str]) -> Iterator[str]:
    """The folders that all paths begin with, as text up to a slash: the fewest first."""
    names = [value.replace("\\", "/") for value in values if value]
    first, last = min(names, default=""), max(names, default="")
    for place, (letter, other) in enumerate(zip(first, last, strict=False)):
        if letter != other:
            return
        if letter == "/":
            yield first[: place + 1]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long for a file's
        return False
