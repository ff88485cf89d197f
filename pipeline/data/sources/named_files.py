"""From what a table calls a file to the file: as written, without its ending or its folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from pipeline.data.sources.files import Walk, name_below
from pipeline.data.sources.table import Table
from pipeline.errors import SourceError

CHECKED = 50  # rows of a column, evenly spread, compared with the files
LEADING = 0.5  # share of them that lead to files, where a column is one of paths


@dataclass(frozen=True)
class Found:
    """A file, or why there is none."""

    path: Path | None
    problem: str | None = None


@dataclass(frozen=True)
class Lead:
    """A column whose values lead to files, once what `prefix` says is taken off each."""

    column: str
    prefix: str = ""


class NamedFiles:
    """The files below the folder `root`, by what names them in a table in the folder `start`."""

    def __init__(self, root: Path, start: Path | None = None) -> None:
        self.root, self._start = root, start or root

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

    def find(self, name: str, where: str) -> Found:
        """The file of that name; raises SourceError where it lies outside the folder."""
        if not name:
            raise SourceError(f"{where}: no path")
        below = self._below(name)
        if below is None:
            raise SourceError(
                f"{where}: path = {name!r} lies outside the folder of images; "
                "move the table to a folder that holds all images"
            )
        return self._found(below)

    def leads(self, table: Table, columns: list[str] | None = None) -> Lead | None:
        """The first column whose values lead to files, as they stand before those that do so
        without the folders that all of them begin with; None where there is none."""
        samples = {column: _sample(table.values(column)) for column in columns or table.columns}
        for column, sample in samples.items():
            if self._share(sample) >= LEADING:
                return Lead(column)
        for column, sample in samples.items():
            for prefix in _prefixes(table.values(column)):
                if self._share([without(prefix, value) for value in sample]) >= LEADING:
                    return Lead(column, prefix)
        return None

    def _share(self, sample: list[str]) -> float:
        return sum(map(self.leads_to_file, sample)) / max(1, len(sample))

    def leads_to_file(self, value: str) -> bool:
        """Whether there is a file of that name."""
        below = self._below(value) if value else None
        return below is not None and self._found(below).path is not None

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

    def _found(self, below: PurePosixPath) -> Found:
        direct = Path(os.path.normpath(self._start / below))
        try:
            if direct.is_file():
                return Found(direct)
        except OSError:  # a name too long for a file's
            return Found(None, "unreadable: No such file or directory")
        files = self._by_name.get(below.name) or self._by_name.get(f"{below.name}.", [])
        tail = f"/{below.as_posix()}"
        fit = [path for path in files if _tail(path, below.name).endswith(tail)]
        if len(fit) > 1:
            return Found(None, f"several files of that name ({', '.join(map(self.name, fit[:2]))})")
        return Found(fit[0]) if fit else Found(None, "unreadable: No such file or directory")

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        """Pictures by name, and by name without ending, which ends in a dot."""
        found: dict[str, list[Path]] = {}
        for path in self.pictures():
            found.setdefault(path.name, []).append(path)
            found.setdefault(f"{path.stem}.", []).append(path)
        return found


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


def _tail(path: Path, name: str) -> str:
    return f"{path.parent.as_posix()}/{name}"
