"""The table of labels in a folder of images, or in the one folder that is all there is in it."""

from __future__ import annotations

from pathlib import Path

from pipeline.data.sources.columns import Wanted, looks_like_labels, with_columns
from pipeline.data.sources.layout import SPLITS, part_of
from pipeline.data.sources.named_files import NamedFiles
from pipeline.data.sources.table import LISTS, TABLES, Table, read_table
from pipeline.errors import SourceError


def find_tables(given: Path, wanted: Wanted) -> tuple[list[Table], NamedFiles]:
    """The table `given`, or those in that folder that name images; and the files that they name.

    They are several where they are named for different splits. Raises SourceError for none, or for
    several that are not.
    """
    if not given.is_dir():
        files = NamedFiles(given.parent)
        return [with_columns(read_table(given), files, wanted)], files
    tables, files = _tables(given, wanted)
    if not tables:
        raise SourceError(f"{given}: no CSV with columns path and label in it")
    found = [table for table in tables if looks_like_labels(table, wanted)]
    found = found or [table for table in tables if wanted.label in table.columns]
    found = found or [table for table in tables if files.leads(table)] or tables[:1]
    if len(found) > 1 and not _are_splits(found):
        names = ", ".join(table.path.name for table in found)
        raise SourceError(f"{given}: several CSV files name images ({names}); give one of them")
    return found, files


def names_images(folder: Path, wanted: Wanted) -> bool:
    """Whether a table in `folder` has columns of paths, which lead to files, and of labels."""
    tables, files = _tables(folder, wanted)
    return any(
        (looks_like_labels(table, wanted) or wanted.label in table.columns) and files.leads(table)
        for table in tables
    )


def tables_that_lead(folder: Path) -> list[str]:
    """The names of the tables in `folder` of which a column leads to files."""
    tables, files = _tables(folder, Wanted())
    return [table.path.name for table in tables if files.leads(table)]


def _are_splits(tables: list[Table]) -> bool:
    parts = [part_of(table.path.stem) for table in tables]
    return len({*parts}) == len(parts) and all(part in SPLITS for part in parts)


def _tables(root: Path, wanted: Wanted) -> tuple[list[Table], NamedFiles]:
    """The readable tables in a folder by name, or in the one folder that is all there is in it."""
    files = NamedFiles(root)
    inner = files.walk.tree
    while True:
        files = files.named_in(inner.path)
        tables = _read_tables(inner.path, files, wanted)
        if tables or inner.files or len(inner.folders) != 1:
            return tables, files
        inner = next(iter(inner.folders.values()))


def _read_tables(folder: Path, files: NamedFiles, wanted: Wanted) -> list[Table]:
    tables, lists = [], []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in TABLES or path.name.startswith(".") or not path.is_file():
            continue
        if "submission" in path.stem.lower():  # a form for answers
            continue
        try:
            table = with_columns(read_table(path), files, wanted)
        except SourceError:
            continue  # named among the files left out
        if path.suffix.lower() != LISTS:
            tables.append(table)
        elif looks_like_labels(table, wanted) and files.leads(table):
            lists.append(table)
    return tables + lists if len(lists) < 2 or _are_splits(lists) else tables
