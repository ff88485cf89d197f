"""Images that a table names: a column of paths, one of labels, optionally one of splits.

Separator, encoding and columns are found by looking (table.py), the columns by name and by what
leads to files. A path is relative to the table's folder and stays in it; its ending may be left
off, and the folders above the file, or there may be folders of another machine before it. Where
`data.path` is the table, what it lists is all there is; where it is the folder that holds it, all
other images below the folder are unlabelled. Tables named train, validation and test are read as
one; without a column of splits the folders above a file may say its split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.sources.columns import Columns, Wanted, choose_columns
from pipeline.data.sources.files import read_image
from pipeline.data.sources.find_table import find_tables
from pipeline.data.sources.layout import part_of
from pipeline.data.sources.named_files import Found, without
from pipeline.data.sources.no_label import several_classes, without_label
from pipeline.data.sources.rows import Row
from pipeline.data.sources.table import Table
from pipeline.errors import SourceError

READ = "the table of labels, read"
AMBIGUOUS = 0.1  # share of rows that may lead to several files


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
        tables, self._files = find_tables(given, wanted)
        self.notes: list[str] = []
        self._entries: list[_Entry] = []
        self._rows: dict[str, tuple[Table, int]] = {}  # of each file the row that names it
        for table in tables:
            columns = choose_columns(table, self._files, wanted)
            split = part_of(table.path.stem) if len(tables) > 1 else None
            self.notes.append(f"{table.path.name}: {columns.summary}" if split else columns.summary)
            self._entries += self._read(table, columns, split)
        self._classes = sorted({entry.label for entry in self._entries if entry.label})
        if not self._classes:
            raise SourceError(f"{tables[0].path}: no labelled images: every label is empty")
        self._others: list[Path] = []
        self.left_out: list[tuple[str, str]] = []
        if given.is_dir():
            self._take_others({table.path for table in tables})

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
            image, problem = b"", entry.problem
            if entry.path is not None and problem is None:
                image, problem = read_image(entry.path)
            label = numbers.get(entry.label)
            yield Row(entry.id, image, label, entry.split, problem, entry.group)
        for path in self._others:
            image, problem = read_image(path)
            yield Row(self._files.name(path), image, problem=problem)

    def _read(self, table: Table, columns: Columns, split: str | None) -> list[_Entry]:
        """The rows of a table; split: that of all of them, where the table has no column of it."""
        for column in (columns.path, columns.label):
            table.check_cells(column)
        labels = table.values(columns.label)
        if (several := several_classes(labels)) is not None:
            raise SourceError(
                f"{table.path}: label {several!r} names several classes; an image has one: "
                "keep the rows of one label, or split the column"
            )
        none = without_label(labels)
        self._say_none(labels, none)
        names = [without(columns.prefix, name) for name in table.values(columns.path)]
        found = [self._files.find(name, table, row) for row, name in enumerate(names)]
        if {*labels} - none:
            self._check_found(table, columns, found)
        splits = self._splits(table, columns, found, split)
        groups = table.values(columns.group) if columns.group else [""] * len(labels)
        entries = []
        for row, (name, file) in enumerate(zip(names, found, strict=True)):
            key = name if file.path is None else self._files.name(file.path)
            other, first = self._rows.setdefault(key, (table, row))
            if (other.path, first) != (table.path, row):
                of = "" if other.path == table.path else f" of {other.path.name}"
                too = f"{name!r} is in row {other.line(first)}{of} too"
                raise SourceError(f"{table.where(row)}: {too}; keep one")
            label = "" if labels[row] in none else labels[row]
            part = splits[row] if label else None
            entries.append(_Entry(key, file.path, label, part, groups[row] or None, file.problem))
        if lost := sum(
            bool(part and label in none) for part, label in zip(splits, labels, strict=True)
        ):
            self.notes.append(f"{lost} rows of a split have no label: used as unlabelled")
        return entries

    def _check_found(self, table: Table, columns: Columns, found: list[Found]) -> None:
        """Raise SourceError where the column leads to no file, or too often to several."""
        if not any(file.path or file.several for file in found):
            first = table.values(columns.path)[0] if found else ""
            raise SourceError(
                f"{table.path}: column {columns.path!r} leads to no files below "
                f"{self._files.root} (e.g. {first!r}); put the table where its paths start, or set "
                "data.path_column"
            )
        several = [file.problem for file in found if file.several]
        if len(several) > AMBIGUOUS * len(found):
            raise SourceError(
                f"{table.path}: column {columns.path!r} leads to {several[0]} and so on, "
                f"{len(several)} rows; write paths with their folders"
            )

    def _splits(
        self, table: Table, columns: Columns, found: list[Found], split: str | None
    ) -> list[str | None]:
        """Of each row its split: by the column, the table or the folders above the file."""
        if columns.split is not None:
            return _splits_of_column(table, columns.split)
        if split is not None:
            return [split] * len(found)
        splits = [self._files.split_of(file.path) if file.path else None for file in found]
        if any(splits):
            counts = Counter(part for part in splits if part)
            told = ", ".join(f"{count} {part}" for part, count in sorted(counts.items()))
            self.notes.append(f"splits by the folders of the files: {told}")
        return splits

    def _say_none(self, labels: list[str], none: set[str]) -> None:
        for value, count in sorted(Counter(label for label in labels if label in none).items()):
            self.notes.append(f"{count} rows with label {value!r}: taken for no label")

    def _take_others(self, tables: set[Path]) -> None:
        """The pictures that no row names are unlabelled; all other files are left out."""
        named, files = {entry.path for entry in self._entries}, self._files
        self._others = [path for path in files.pictures() if path not in named]
        if self._others:
            count, shown = len(self._others), files.name(self._others[0])
            self.notes.append(f"{count} images that no row names: unlabelled (e.g. {shown!r})")
        for path, reason in files.walk.unused:
            if path not in named:
                self.left_out.append((files.name(path), READ if path in tables else reason))


def _splits_of_column(table: Table, column: str) -> list[str | None]:
    splits: list[str | None] = []
    for row, value in enumerate(table.values(column)):
        part = part_of(value) if value else None
        if value and part in (None, "labeled"):
            raise SourceError(
                f"{table.where(row)}: {column} = {value!r}: must be train, validation or test"
            )
        splits.append(part if part != "unlabeled" else None)
    return splits
