"""From what a table calls a file to the file: as written, without its ending or its folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import PurePosixPath

from pipeline.data.sources.layout import part_of
from pipeline.data.sources.rows import SPLITS
from pipeline.data.sources.table import Table
from pipeline.data.trees.local import LocalTree, path_text
from pipeline.data.trees.names import Index, Names, folded
from pipeline.data.trees.tree import SYSTEM, Tree, is_system
from pipeline.data.trees.walk import Walk
from pipeline.errors import SourceError

VALUES_COMPARED = 50  # of a column, evenly spread, compared with the files
MISSING = "unreadable: No such file or directory"
FOLDERS_COMPARED = 32  # that all paths begin with
LONGEST_PATH, MOST_FOLDERS = 4096, 256  # of a name that may be a file's
LEADING = 0.5  # share of them that lead to files, where a column is one of paths


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file by its name below the root, and why it can't be used, or why there is none; several:
    there are too many."""

    name: str | None
    problem: str | None = None
    several: bool = False


NO_FILE = NamedFile(None, MISSING)


@dataclass(frozen=True)
class Lead:
    """A column whose values lead to files, once `prefix` is taken off each."""

    column: str
    prefix: str = ""

    def names(self, table: Table) -> Names:
        """The column's values without the prefix, whichever way their slashes lean."""
        return Names(_without(self.prefix, value) for value in table.values(self.column))


class NamedFiles:
    """The files below the root of a tree, by what a table in it calls them."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree

    @cached_property
    def walk(self) -> Walk:
        """All of them, looked up where a name does not lead to its file directly."""
        return Walk(self.tree)

    @cached_property
    def pictures(self) -> Names:
        """All pictures below the root, sorted."""
        return Names(self.walk.tree.names())

    def find(self, name: str, table: Table, row: int) -> NamedFile:
        """The file of that name in a row; raises SourceError where it lies outside the folder."""
        if not name:
            raise SourceError(f"{table.where(row)}: no path")
        file = self._file(name, table.file.folder, part_of(table.file.stem))
        if file is None:
            raise SourceError(
                f"{table.where(row)}: path = {name!r} lies outside the folder of images; "
                "move the table to a folder that holds all images"
            )
        return file

    def lead(self, table: Table, columns: list[str] | None = None) -> Lead | None:
        """The first column whose values lead to files, as they stand before those that do so
        without the folders that all of them begin with; None where there is none."""
        part = part_of(table.file.stem)
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
        file = self._file(name, table.file.folder, part) if name else None
        return file is not None and (file.name is not None or file.several)

    def _file(self, name: str, start: str, part: str | None) -> NamedFile | None:
        """What `name` leads to from the folder `start`; None where it is outside the root, though
        links may lead elsewhere."""
        if "\0" in name:
            return None
        if len(name) > LONGEST_PATH or sum(map(name.count, "/\\")) > MOST_FOLDERS:
            return NO_FILE
        if (inside := self.tree.inside(start, name)) is None:
            return None
        try:
            if (direct := self._direct(inside)) is not None:
                return direct
        except OSError:  # a name too long for a file's
            return NO_FILE
        below = PurePosixPath(os.path.relpath(inside, start or "."))
        similar = self._similar(below, part)
        if len(similar) > 1:
            names = ", ".join(map(path_text, similar[:2]))
            return NamedFile(None, f"several files of that name ({names})", several=True)
        return NamedFile(similar[0]) if similar else NO_FILE

    def _direct(self, name: str) -> NamedFile | None:
        """The file of just that name; in storage as it was listed, since to ask for each takes a
        request."""
        hidden = any(map(is_system, name.split("/")))
        if isinstance(self.tree, LocalTree):
            if not self.tree.is_file(name):
                return None
            return NamedFile(name, SYSTEM if hidden else self.tree.reason_left_out(name))
        if self._pictures_by_path.holds(name, self.pictures.__getitem__):
            return NamedFile(name)
        unused = map(self.walk.unused.__getitem__, self._unused_by_path.places(name))
        return next((NamedFile(name, reason) for other, reason in unused if other == name), None)

    def _similar(self, below: PurePosixPath, part: str | None) -> list[str]:
        """The files whose path ends so, or does but for its ending, or for its letters' case and
        form; none in the folder of another split than the table's, those of its own first."""
        start = f"{self.tree.where('')}/"
        for name in (below.name, f"{below.name}.", folded(below.name)):
            tail = folded(f"/{below.parent / name}".replace("/./", "/"))
            files = [
                file
                for file in map(self.pictures.__getitem__, self._by_name.places(name))
                if name in _names_of(file)
                and folded(f"{start}{file[: file.rfind('/') + 1]}{name}").endswith(tail)
            ]
            if part in SPLITS:
                files = [file for file in files if split_of_folders(file) in (None, part)]
                files = [file for file in files if split_of_folders(file) == part] or files
            if files:
                return files
        return []

    @cached_property
    def _pictures_by_path(self) -> Index:
        return Index((file, place) for place, file in enumerate(self.pictures))

    @cached_property
    def _unused_by_path(self) -> Index:
        return Index((file, place) for place, (file, _) in enumerate(self.walk.unused))

    @cached_property
    def _by_name(self) -> Index:
        """Pictures by their names."""
        return Index(
            (name, place) for place, file in enumerate(self.pictures) for name in _names_of(file)
        )


def _names_of(file: str) -> set[str]:
    """A file's name, that without its ending, which ends in a dot, and the folded name."""
    path = PurePosixPath(file)
    return {path.name, f"{path.stem}.", folded(path.name)}


def split_of_folders(file: str) -> str | None:
    """The split that the folders above a file are named for; None for none."""
    names = file.split("/")[:-1]
    return next((part for name in names if (part := part_of(name)) in SPLITS), None)


def _without(prefix: str, name: str) -> str:
    return name.replace("\\", "/").removeprefix(prefix) if prefix else name


def _sample(values: Names) -> list[str]:
    """Some of the values that are not empty, evenly spread."""
    step = max(1, sum(map(bool, values)) // VALUES_COMPARED)
    return list(islice(filter(None, values), None, None, step))


def _prefixes(values: Names) -> Iterator[str]:
    """The folders that all paths begin with, as text up to a slash: the fewest first."""
    ends = [
        end(filter(None, (value.replace("\\", "/") for value in values)), default="")
        for end in (min, max)
    ]
    common = os.path.commonprefix(ends)  # noqa: RUF071 - by characters
    prefixes = (common[: place + 1] for place, letter in enumerate(common) if letter == "/")
    return islice(prefixes, FOLDERS_COMPARED)
