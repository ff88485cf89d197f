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


class NamedFiles:
    """The files below a table's folder, by what names them."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @cached_property
    def walk(self) -> Walk:
        """All of them, looked up where a name does not lead to its file directly."""
        return Walk(self._root)

    def name(self, path: Path) -> str:
        """The path below the root, as an id."""
        return name_below(self._root, path)

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
                f"{where}: path = {name!r} lies outside the CSV's folder; "
                "move the CSV to a folder that holds all images"
            )
        return self._found(below)

    def leads(self, table: Table, columns: list[str] | None = None) -> str | None:
        """The first column whose values lead to files; None where there is none."""
        for column in columns or table.columns:
            values = [value for value in table.values(column) if value]
            sample = values[:: max(1, len(values) // CHECKED)]
            hits = sum(self._leads(value) for value in sample)
            if sample and hits >= LEADING * len(sample):
                return column
        return None

    def _leads(self, value: str) -> bool:
        below = self._below(value)
        return below is not None and self._found(below).path is not None

    def _below(self, name: str) -> PurePosixPath | None:
        """`name` as a path below the root; None where it is none. Links may lead elsewhere."""
        if "\0" in name:
            return None
        written = name if (self._root / name).exists() else name.replace("\\", "/")
        inside = Path(os.path.relpath(self._root / written, self._root))
        return (
            None if inside.is_absolute() or inside.parts[:1] == ("..",) else PurePosixPath(inside)
        )

    def _found(self, below: PurePosixPath) -> Found:
        direct = self._root / below
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


def _tail(path: Path, name: str) -> str:
    return f"{path.parent.as_posix()}/{name}"
