"""Which source reads what a user has: by its ending, by its tables, by its folders."""

from __future__ import annotations

from pathlib import Path

from pipeline.data.sources.coco import coco_files
from pipeline.data.sources.columns import ColumnNames, has_label_columns
from pipeline.data.sources.layout import Layout, part_of
from pipeline.data.sources.manifest import read_tables
from pipeline.data.sources.masks import has_masks
from pipeline.data.sources.parquet_files import find_parquet, parquet_has_masks
from pipeline.data.sources.table import TABLES
from pipeline.errors import SourceError
from pipeline.params.sections import TaskName, tasks_of


def recognise(path: str, names: ColumnNames | None = None) -> str:
    """Which source reads `path`: folder, manifest, masks, coco or parquet; names: the columns of a
    table.

    Images with masks count first, then COCO's JSON, unless a table has labels of them. A table that
    leads to images and has labels counts before classes' folders, these before other tables, and
    classes in a folder `labeled` before all. Raises SourceError where there is nothing there.
    """
    root, names = Path(path), names or ColumnNames()
    if root.suffix.lower() in TABLES and not root.is_dir():
        return "masks" if root.exists() and has_masks(root) else "manifest"
    if root.suffix.lower() == ".json" and root.is_file():
        return "coco"
    if root.suffix.lower() == ".parquet" or (not root.exists() and "*" in path):
        return "parquet"
    if not root.is_dir():
        raise SourceError(f"{path}: no such folder, CSV or Parquet file")
    tables, files = read_tables(root, names)
    leading = [table for table in tables if files.lead(table)]
    tree = files.walk.tree
    labels = any(has_label_columns(each, names) for each in leading)
    walk = files.walk
    if any(has_masks(each.path, walk) for each in leading) or (
        not labels and has_masks(root, walk)
    ):
        return "masks"
    if not labels and coco_files(walk):
        return "coco"
    if any(part_of(name) == "labeled" and inner.folders for name, inner in tree.folders.items()):
        return "folder"
    if any(has_label_columns(each, names) or names.label in each.columns for each in leading):
        return "manifest"
    if len({name for _, name, _ in Layout.of(tree).labeled}) > 1:
        return "folder"
    if find_parquet(path)[0]:
        return "parquet"
    return "manifest" if unread_tables(root) else "folder"


def task_of(source: str, path: str, names: ColumnNames | None = None) -> TaskName:
    """What the answers of a source at `path` are for; names: of its columns."""
    usual, *others = tasks_of(source)
    return others[0] if others and parquet_has_masks(path, names or ColumnNames()) else usual


def unread_tables(folder: Path) -> list[str]:
    """What to say of tables in a folder of classes that lead to its images as well."""
    tables, files = read_tables(folder, ColumnNames())
    return [
        f"{table.path.name} names images too and is not read; where its labels are meant, name "
        "their column with --label-column"
        for table in tables
        if files.lead(table)
    ]
