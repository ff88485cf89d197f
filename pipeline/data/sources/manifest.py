"""Images that a table names: a column of paths, one of labels, optionally one of splits.

Separator, encoding and columns are found in the content (table.py, columns.py). A path is relative
to the table's folder and stays in it; its ending may be left off, and the folders above the file,
or there may be folders of another machine before it. Where `data.path` is the table, what it lists
is all there is; where it is the folder that holds it, all other images below the folder are
unlabelled. Tables named train, validation and test are read as one; without a column of splits the
folders above a file may say its split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.sources.columns import (
    ColumnNames,
    Columns,
    choose_columns,
    has_label_columns,
    missing_labels,
    with_header,
)
from pipeline.data.sources.files import read_image
from pipeline.data.sources.layout import part_of
from pipeline.data.sources.named_files import NamedFile, NamedFiles
from pipeline.data.sources.rows import SPLITS, Row
from pipeline.data.sources.table import LISTS, MOST_ROWS, TABLES, Table, read_table
from pipeline.errors import SourceError

READ = "the table of labels, read"
ROWS_TRIED = 20_000
AMBIGUOUS = 0.1  # share of rows that may lead to several files


@dataclass(frozen=True, slots=True)
class _Entry:
    """One image: its id, its file (None: there is none), and what the table says of it."""

    id: str
    path: Path | None
    label: str = ""
    split: str | None = None
    group: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class _Part:
    """Some of the images; numbers: those of the classes, by name."""

    entries: list[_Entry]
    numbers: Mapping[str, int]

    def __iter__(self) -> Iterator[Row]:
        for entry in self.entries:
            image, problem = b"", entry.problem
            if entry.path is not None and problem is None:
                image, problem = read_image(entry.path)
            label = self.numbers.get(entry.label)
            yield Row(entry.id, image, label, entry.split, problem, entry.group)


class ManifestSource:
    """The rows of a table in its order, then what lies beside it; an id is the file's path."""

    name = "manifest"
    rows_together = 1

    def __init__(self, path: str | Path, names: ColumnNames | None = None) -> None:
        root, names = Path(path), names or ColumnNames()
        if not root.exists():
            raise SourceError(f"data.path = {str(path)!r}: no such CSV file or folder")
        tables, self._files = _label_tables(root, names)
        self.notes: list[str] = []
        self._entries: list[_Entry] = []
        self._rows: dict[str, tuple[Table, int]] = {}  # of each file the row that names it
        for table in tables:
            columns = choose_columns(table, self._files, names)
            split = part_of(table.path.stem) if len(tables) > 1 else None
            self.notes.append(f"{table.path.name}: {columns.summary}" if split else columns.summary)
            self._entries += self._read(table, columns, split)
        self.classes = sorted({entry.label for entry in self._entries if entry.label})
        if not self.classes:
            raise SourceError(f"{tables[0].path}: no labelled images: every label is empty")
        self.left_out: list[tuple[str, str]] = []
        if root.is_dir():
            self._take_others({table.path for table in tables})

    def __len__(self) -> int:
        return len(self._entries)

    def rows(self) -> Iterator[Row]:
        """Every image; one that can't be read comes with its problem."""
        return iter(self.part(0, len(self)))

    def part(self, first: int, stop: int) -> Iterable[Row]:
        """Some of them."""
        entries = self._entries[first:stop]
        labels = {entry.label for entry in entries}
        numbered = enumerate(self.classes)
        return _Part(entries, {label: number for number, label in numbered if label in labels})

    def _read(self, table: Table, columns: Columns, split: str | None) -> list[_Entry]:
        """The rows of a table; split: that of all of them, where the table has no column of it."""
        for column in (columns.path.column, columns.label):
            table.check_cells(column)
        labels = table.values(columns.label)
        missing = missing_labels(labels, table.path)
        for value, count in sorted(Counter(labels).items()):
            if value in missing:
                self.notes.append(f"{count} rows with label {value!r}: taken for no label")
        names = columns.path.names(table)
        every = max(1, len(names) // ROWS_TRIED)
        for step in sorted({1, every}, reverse=True):  # of many rows some tell that none leads
            rows = range(0, len(names), step)
            files = [self._files.find(names[row], table, row) for row in rows]
            if {*labels} - missing:
                self._check_files(table, columns, files)
        splits = self._splits(table, columns, files, split)
        groups = table.values(columns.group) if columns.group else [""] * len(labels)
        entries = []
        for row, (name, file) in enumerate(zip(names, files, strict=True)):
            key = name if file.path is None else self._files.name(file.path)
            self._check_first(key, name, table, row)
            label = "" if labels[row] in missing else labels[row]
            part = splits[row] if label else None
            entries.append(_Entry(key, file.path, label, part, groups[row] or None, file.problem))
        pairs = zip(splits, labels, strict=True)
        if unlabeled := sum(part is not None and label in missing for part, label in pairs):
            self.notes.append(f"{unlabeled} rows of a split have no label: used as unlabelled")
        return entries

    def _check_first(self, key: str, name: str, table: Table, row: int) -> None:
        """Raise SourceError where an earlier row names the file too."""
        other, first = self._rows.setdefault(key, (table, row))
        if (other.path, first) != (table.path, row):
            of = "" if other.path == table.path else f" of {other.path.name}"
            raise SourceError(
                f"{table.where(row)}: {name!r} is in row {other.line(first)}{of} too; keep one"
            )

    def _check_files(self, table: Table, columns: Columns, files: list[NamedFile]) -> None:
        """Raise SourceError where the column leads to no file, or too often to several."""
        column = f"{table.path}: column {columns.path.column!r}"
        if not any(file.path or file.several for file in files):
            raise SourceError(
                f"{column} leads to no files below {self._files.root} (e.g. "
                f"{table.values(columns.path.column)[0]!r}); put the table where its paths start, "
                "or set data.path_column"
            )
        several = [file.problem for file in files if file.several]
        if len(several) > AMBIGUOUS * len(files):
            raise SourceError(
                f"{column} leads to {several[0]} and so on, {len(several)} rows; write paths with "
                "their folders"
            )

    def _splits(
        self, table: Table, columns: Columns, files: list[NamedFile], split: str | None
    ) -> list[str | None]:
        """Of each row its split: by the column, the table or the folders above the file."""
        if columns.split is not None:
            return _splits_of_column(table, columns.split)
        if split is not None:
            return [split] * len(files)
        splits = [self._files.split_of(file.path) if file.path else None for file in files]
        if any(splits):
            counts = Counter(part for part in splits if part)
            shown = ", ".join(f"{count} {part}" for part, count in sorted(counts.items()))
            self.notes.append(f"splits by the folders of the files: {shown}")
        return splits

    def _take_others(self, tables: set[Path]) -> None:
        """The pictures that no row names are unlabelled; all other files are left out."""
        named, files = {entry.path for entry in self._entries}, self._files
        others = [path for path in files.pictures() if path not in named]
        if others:
            count, example = len(others), files.name(others[0])
            self.notes.append(f"{count} images that no row names: unlabelled (e.g. {example!r})")
        self._entries += [_Entry(files.name(path), path) for path in others]
        self.left_out = [
            (files.name(path), READ if path in tables else reason)
            for path, reason in files.walk.unused
            if path not in named
        ]


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


def _label_tables(path: Path, names: ColumnNames) -> tuple[list[Table], NamedFiles]:
    """The table `path`, or those in that folder that name images; and the files that they name.

    They are several where they are named for different splits. Raises SourceError for none, or for
    several that are not.
    """
    if not path.is_dir():
        files = NamedFiles(path.parent)
        return [with_header(read_table(path), files, names)], files
    tables, files = read_tables(path, names)
    if not tables:
        raise SourceError(f"{path}: no CSV with columns path and label in it")
    labeled = (
        [table for table in tables if has_label_columns(table, names)]
        or [table for table in tables if names.label in table.columns]
        or [table for table in tables if files.lead(table)]
        or tables[:1]
    )
    if len(labeled) > 1 and not _are_splits(labeled):
        shown = ", ".join(table.path.name for table in labeled)
        raise SourceError(f"{path}: several CSV files name images ({shown}); give one of them")
    return labeled, files


def read_tables(root: Path, names: ColumnNames) -> tuple[list[Table], NamedFiles]:
    """The readable tables in a folder by name, or in the one folder that is all there is in it."""
    files = NamedFiles(root)
    folder = files.walk.tree
    while not (tables := _tables_in(folder.path, files, names)):
        if folder.files or len(folder.folders) != 1:
            break
        folder = next(iter(folder.folders.values()))
    return tables, files


def _tables_in(folder: Path, files: NamedFiles, names: ColumnNames) -> list[Table]:
    tables, lists, length = [], [], 0
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in TABLES or path.name.startswith(".") or not path.is_file():
            continue
        if "submission" in path.stem.lower():  # a form for answers
            continue
        try:
            table = with_header(read_table(path), files, names)
        except SourceError:
            continue  # named among the files left out
        length += table.length
        if length > MOST_ROWS:
            raise SourceError(f"{folder}: tables of over {MOST_ROWS:,} rows; give one of them")
        if path.suffix.lower() != LISTS:
            tables.append(table)
        elif has_label_columns(table, names) and files.lead(table):
            lists.append(table)
    return tables + lists if len(lists) < 2 or _are_splits(lists) else tables


def _are_splits(tables: list[Table]) -> bool:
    parts = [part_of(table.path.stem) for table in tables]
    return len({*parts}) == len(parts) and all(part in SPLITS for part in parts)
