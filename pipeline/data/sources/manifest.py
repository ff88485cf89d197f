"""Images that a table names: a column of paths, one of labels, optionally one of splits.

Separator, encoding and columns are found in the content (table.py, columns.py). A path is relative
to the table's folder and stays in it; its ending may be left off, and the folders above the file,
or there may be folders of another machine before it. Where `data.path` is the table, what it lists
is all there is; where it is the folder that holds it, all other images below the folder are
unlabelled. Tables named train, validation and test are read as one; without a column of splits the
folders above a file may say its split.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, repeat
from pathlib import Path

from pipeline.data.sources.columns import (
    ColumnNames,
    Columns,
    choose_columns,
    has_label_columns,
    missing_labels,
    with_header,
)
from pipeline.data.sources.entries import Entries, Entry, Part
from pipeline.data.sources.layout import part_of
from pipeline.data.sources.named_files import NamedFile, NamedFiles, split_of_folders
from pipeline.data.sources.rows import SPLITS, Row
from pipeline.data.sources.table import LISTS, MOST_ROWS, TABLES, Table, read_table
from pipeline.data.trees import Tree, open_place
from pipeline.data.trees.local import path_text
from pipeline.data.trees.names import Index, Names, Unused
from pipeline.data.trees.tree import File, ending_of
from pipeline.data.trees.walk import Folder
from pipeline.errors import SourceError

NO_PLACE = "no such CSV file or folder"
READ = "the table of labels, read"
ROWS_TRIED = 20_000
AMBIGUOUS = 0.1  # share of rows that may lead to several files


class ManifestSource:
    """The rows of a table in its order, then what lies beside it; an id is the file's path."""

    name = "manifest"
    rows_together = 1

    def __init__(self, path: str | Path, names: ColumnNames | None = None) -> None:
        (tree, table_name), names = open_place(path, NO_PLACE), names or ColumnNames()
        tables, files = _label_tables(tree, table_name, names)
        self._tree, self.notes, self.left_out = files.tree, list[str](), Unused()
        self._codes: dict[str, int] = {}  # of labels, as they come
        parts, paths = list[Entries](), list[Names]()
        for table in tables:
            columns = choose_columns(table, files, names)
            split = part_of(table.file.stem) if len(tables) > 1 else None
            self.notes.append(
                f"{table.file.own_name}: {columns.summary}" if split else columns.summary
            )
            paths.append(columns.path.names(table))
            parts.append(self._read(table, columns, split, paths[-1], files))
        self.classes = sorted(self._codes)
        if not self.classes:
            raise SourceError(f"{tables[0].file}: no labelled images: every label is empty")
        numbers = {label: number for number, label in enumerate(self.classes)}
        self._entries = Entries.joined(parts).labelled([numbers[label] for label in self._codes])
        index = Index(self._entries.names())
        check_unique(index, self._entries, tables, paths)
        if not table_name:
            self._take_others({table.file.name for table in tables}, index, files)

    def __len__(self) -> int:
        return len(self._entries)

    def rows(self) -> Iterator[Row]:
        """Every image; one that can't be read comes with its problem."""
        return iter(self.part(0, len(self)))

    def part(self, first: int, stop: int) -> Iterable[Row]:
        """Some of them."""
        return Part(self._tree, self._entries.part(first, stop))

    def _read(
        self, table: Table, columns: Columns, split: str | None, names: Names, files: NamedFiles
    ) -> Entries:
        """The rows of a table, their labels by code; split: that of all of them, where the table
        has no column of it; names: what it calls the files."""
        for column in (columns.path.column, columns.label):
            table.check_cells(column)
        labels = table.values(columns.label)
        missing = missing_labels(labels, table.file)
        for value, count in sorted(Counter(labels).items()):
            if value in missing:
                self.notes.append(f"{count} rows with label {value!r}: taken for no label")
        every, found = max(1, len(names) // ROWS_TRIED), _Found()
        for step in sorted({1, every}, reverse=True):  # of many rows some tell that none leads
            found = _Found()
            for row, name in enumerate(names):
                if row % step == 0:
                    found.append(files.find(name, table, row))
            if {*labels} - missing:
                _check_files(table, columns, found)
        splits = self._splits(table, columns, found, split)
        groups = table.values(columns.group) if columns.group else repeat("", len(labels))
        if unlabeled := sum(
            part is not None and label in missing
            for part, label in zip(splits, labels, strict=True)
        ):
            self.notes.append(f"{unlabeled} rows of a split have no label: used as unlabelled")

        def entries() -> Iterator[Entry]:
            for name, file, label, part, group in zip(
                names, found, labels, splits, groups, strict=True
            ):
                if label in missing:
                    code, part = None, None
                else:
                    code = self._codes.setdefault(label, len(self._codes))
                yield Entry(
                    name if file.name is None else file.name,
                    code,
                    split=part,
                    group=group or None,
                    problem=file.problem,
                )

        return Entries.of(entries())

    def _splits(
        self, table: Table, columns: Columns, files: _Found, split: str | None
    ) -> list[str | None]:
        """Of each row its split: by the column, the table or the folders above the file."""
        if columns.split is not None:
            return _splits_of_column(table, columns.split)
        if split is not None:
            return [split] * len(files)
        splits = [file.name and split_of_folders(file.name) for file in files]
        if any(splits):
            counts = Counter(part for part in splits if part)
            shown = ", ".join(f"{count} {part}" for part, count in sorted(counts.items()))
            self.notes.append(f"splits by the folders of the files: {shown}")
        return splits

    def _take_others(self, tables: set[str], index: Index, files: NamedFiles) -> None:
        """The pictures that no row names are unlabelled; all other files are left out."""

        def is_named(name: str) -> bool:
            return index.holds(name, self._entries.name)

        others = Entries.of(Entry(name) for name in files.pictures if not is_named(name))
        if others:
            count, example = len(others), path_text(others.name(0))
            self.notes.append(f"{count} images that no row names: unlabelled (e.g. {example!r})")
        self.left_out.extend(
            (path_text(name), READ if name in tables else reason)
            for name, reason in files.walk.unused
            if not is_named(name)
        )
        self._entries = Entries.joined([self._entries, others])


def check_unique(
    index: Index, entries: Entries, tables: Sequence[Table], paths: Sequence[Names]
) -> None:
    """Raise SourceError where an earlier row names a file too.

    index: of the entries, which are the rows of all tables; paths: as each table has them.
    """
    if (twice := index.repeated(entries.name)) is None:
        return
    starts = [0, *accumulate(table.length for table in tables)]
    (first, row), (of_first, of_row) = twice, (bisect(starts, place) - 1 for place in twice)
    other, table = tables[of_first], tables[of_row]
    of = "" if other.file == table.file else f" of {other.file.own_name}"
    row -= starts[of_row]
    raise SourceError(
        f"{table.where(row)}: {paths[of_row][row]!r} is in row "
        f"{other.line(first - starts[of_first])}{of} too; keep one"
    )


class _Found:
    """Of each row of a table its file."""

    def __init__(self) -> None:
        self._names, self._problems, self._several = Names(), list[str | None](), bytearray()

    def append(self, file: NamedFile) -> None:
        self._names.append(file.name or "")
        self._problems.append(file.problem)
        self._several.append(file.several)

    def __len__(self) -> int:
        return len(self._problems)

    def __iter__(self) -> Iterator[NamedFile]:
        for name, problem, several in zip(self._names, self._problems, self._several, strict=True):
            yield NamedFile(name or None, problem, bool(several))


def _check_files(table: Table, columns: Columns, files: _Found) -> None:
    """Raise SourceError where the column leads to no file, or too often to several."""
    column = f"{table.file}: column {columns.path.column!r}"
    if not any(file.name or file.several for file in files):
        raise SourceError(
            f"{column} leads to no files below {table.file.tree.where('')} (e.g. "
            f"{table.values(columns.path.column)[0]!r}); put the table where its paths start, "
            "or set data.path_column"
        )
    several = [file.problem for file in files if file.several]
    if len(several) > AMBIGUOUS * len(files):
        raise SourceError(
            f"{column} leads to {several[0]} and so on, {len(several)} rows; write paths with "
            "their folders"
        )


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


def _label_tables(tree: Tree, name: str, names: ColumnNames) -> tuple[list[Table], NamedFiles]:
    """The table `name`, or those in the tree that name images; and the files that they name.

    They are several where they are named for different splits. Raises SourceError for none, or for
    several that are not.
    """
    if name:
        files = NamedFiles(tree)
        return [with_header(read_table(File(tree, name)), files, names)], files
    tables, files = read_tables(tree, names)
    where = tree.where("")
    if not tables:
        raise SourceError(f"{where}: no CSV with columns path and label in it")
    labeled = (
        [table for table in tables if has_label_columns(table, names)]
        or [table for table in tables if names.label in table.columns]
        or [table for table in tables if files.lead(table)]
        or tables[:1]
    )
    if len(labeled) > 1 and not are_splits(labeled):
        shown = ", ".join(table.file.own_name for table in labeled)
        raise SourceError(f"{where}: several CSV files name images ({shown}); give one of them")
    return labeled, files


def read_tables(tree: Tree, names: ColumnNames) -> tuple[list[Table], NamedFiles]:
    """The readable tables in a folder by name, or in the one folder that is all there is in it."""
    files = NamedFiles(tree)
    folder = files.walk.tree
    while not (tables := _tables_in(folder, files, names)):
        if folder.files or len(folder.folders) != 1:
            break
        folder = next(iter(folder.folders.values()))
    return tables, files


def _tables_in(folder: Folder, files: NamedFiles, names: ColumnNames) -> list[Table]:
    tables, lists, length = [], [], 0
    for name in files.walk.others_in(folder, TABLES):
        file = File(files.tree, name)
        if "submission" in file.stem.lower():  # a form for answers
            continue
        try:
            table = with_header(read_table(file), files, names)
        except SourceError:
            continue  # named among the files left out
        length += table.length
        if length > MOST_ROWS:
            raise SourceError(
                f"{folder.where}: tables of over {MOST_ROWS:,} rows; give one of them"
            )
        if ending_of(name) != LISTS:
            tables.append(table)
        elif has_label_columns(table, names) and files.lead(table):
            lists.append(table)
    return tables + lists if len(lists) < 2 or are_splits(lists) else tables


def are_splits(tables: list[Table]) -> bool:
    """Whether each is named for a split of its own, so that they are one."""
    parts = [part_of(table.file.stem) for table in tables]
    return len({*parts}) == len(parts) and all(part in SPLITS for part in parts)
