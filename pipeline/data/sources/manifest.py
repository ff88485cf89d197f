"""Images that a table names: a column of paths, one of labels, optionally one of splits.

Separator, encoding and columns are found by looking (table.py), the columns by name and by what
leads to files. A path is relative to the table's folder and stays in it; its ending may be left
off, and the folders above the file, or there may be folders of another machine before it. Where
`data.path` is the table, what it lists is all there is; where it is the folder that holds it, all
other images below the folder are unlabelled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.sources.columns import Columns, Wanted, choose_columns
from pipeline.data.sources.files import read_image
from pipeline.data.sources.find_table import find_table
from pipeline.data.sources.layout import part_of
from pipeline.data.sources.named_files import NamedFiles, without
from pipeline.data.sources.no_label import several_classes, without_label
from pipeline.data.sources.rows import Row
from pipeline.data.sources.table import Table
from pipeline.errors import SourceError

READ = "the table of labels, read"


@dataclass(frozen=True)
class _Entry:
    """One row: its id, its file (None: there is none), and what the table says of it."""

    id: str
    path: Path | None
    label: str
    split: str | None
    group: str | None
    problem: str | None = None


class ManifestSource:
    """The rows of a table in its order, then what lies beside it; an id is the file's path."""

    name = "manifest"

    def __init__(self, path: str | Path, wanted: Wanted | None = None) -> None:
        given = Path(path)
        if not given.exists():
            raise SourceError(f"data.path = {str(path)!r}: no such CSV file or folder")
        wanted = wanted or Wanted()
        table, files = find_table(given, wanted)
        columns = choose_columns(table, files, wanted)
        self.notes = [columns.said]
        self._entries = self._read(table, files, columns)
        self._classes = sorted({entry.label for entry in self._entries if entry.label})
        if not self._classes:
            raise SourceError(f"{table.path}: no labelled images: every label is empty")
        if not any(entry.path for entry in self._entries):
            raise SourceError(
                f"{table.path}: column {columns.path!r} leads to no files below {files.root} "
                f"(e.g. {self._entries[0].id!r}); put the table where its paths start, or set "
                "data.path_column"
            )
        self._others: list[Path] = []
        self.left_out: list[tuple[str, str]] = []
        if given.is_dir():
            self._take_others(files, table.path)

    @property
    def classes(self) -> list[str]:
        """The labels, sorted."""
        return list(self._classes)

    def __len__(self) -> int:
        return len(self._entries) + len(self._others)

    def rows(self) -> Iterator[Row]:
        """Every image; one that can't be read comes with its problem."""
        numbers = {label: number for number, label in enumerate(self._classes)}
        for entry in self._entries:
            image, problem = (b"", entry.problem) if not entry.path else read_image(entry.path)
            label = numbers.get(entry.label)
            yield Row(entry.id, image, label, entry.split, problem, entry.group)
        for path in self._others:
            image, problem = read_image(path)
            yield Row(self._files.name(path), image, problem=problem)

    def _read(self, table: Table, files: NamedFiles, columns: Columns) -> list[_Entry]:
        self._files = files
        labels = table.values(columns.label)
        if (several := several_classes(labels)) is not None:
            raise SourceError(
                f"{table.path}: label {several!r} names several classes; an image has one: "
                "keep the rows of one label, or split the column"
            )
        none = without_label(labels)
        self._say_none(labels, none)
        splits = _splits(table, columns)
        groups = table.values(columns.group) if columns.group else [""] * len(labels)
        entries, first = [], dict[str, int]()
        for row, name in enumerate(table.values(columns.path)):
            where = table.where(row)
            found = files.find(without(columns.prefix, name), where)
            key = name if found.path is None else files.name(found.path)
            if first.setdefault(key, row) != row:
                too = f"{name!r} is in row {table.line(first[key])} too"
                raise SourceError(f"{where}: {too}; keep one")
            label = "" if labels[row] in none else labels[row]
            split = splits[row] if label else None
            group = groups[row] or None
            entries.append(_Entry(key, found.path, label, split, group, found.problem))
        if lost := sum(
            bool(split and label in none) for split, label in zip(splits, labels, strict=True)
        ):
            self.notes.append(f"{lost} rows of a split have no label: used as unlabelled")
        return entries

    def _say_none(self, labels: list[str], none: set[str]) -> None:
        for value, count in sorted(Counter(label for label in labels if label in none).items()):
            self.notes.append(f"{count} rows with label {value!r}: taken for no label")

    def _take_others(self, files: NamedFiles, table: Path) -> None:
        """The pictures that no row names are unlabelled; all other files are left out."""
        named = {entry.path for entry in self._entries}
        self._others = [path for path in files.pictures() if path not in named]
        if self._others:
            count, shown = len(self._others), files.name(self._others[0])
            self.notes.append(f"{count} images that no row names: unlabelled (e.g. {shown!r})")
        for path, reason in files.walk.unused:
            if path not in named:
                self.left_out.append((files.name(path), READ if path == table else reason))


def _splits(table: Table, columns: Columns) -> list[str | None]:
    """Of each row its split, None where it is open."""
    if columns.split is None:
        return [None] * len(table.rows)
    splits: list[str | None] = []
    for row, value in enumerate(table.values(columns.split)):
        part = part_of(value) if value else None
        if value and part in (None, "labeled"):
            raise SourceError(
                f"{table.where(row)}: {columns.split} = {value!r}: must be train, "
                "validation or test"
            )
        splits.append(part if part != "unlabeled" else None)
    return splits
