"""Which source reads what a user has: by its ending, by its tables, by its folders."""

from __future__ import annotations

from pathlib import Path

from pipeline.data.sources.coco import coco_files
from pipeline.data.sources.columns import ColumnNames, has_label_columns
from pipeline.data.sources.layout import Layout, part_of
from pipeline.data.sources.manifest import read_tables
from pipeline.data.sources.mask_files import PairedFiles
from pipeline.data.sources.masks import check_pairs, names_masks, readable
from pipeline.data.sources.parquet_files import is_parquet, parquet_has_masks
from pipeline.data.sources.table import TABLES, Table
from pipeline.data.trees import open_place, open_tree
from pipeline.data.trees.tree import File, ending_of, is_remote, local_path
from pipeline.data.trees.walk import Walk
from pipeline.errors import SourceError
from pipeline.params.sections import TaskName, tasks_of


def recognise(path: str, names: ColumnNames | None = None) -> str:
    """Which source reads `path`: folder, manifest, masks, coco or parquet; names: the columns of a
    table.

    Images with masks count first, then COCO's JSON, unless a table has labels of them. A table that
    leads to images and has labels counts before classes' folders, these before other tables, and
    classes in a folder `labeled` before all. Raises SourceError where there is nothing there.
    """
    path, names = local_path(path), names or ColumnNames()
    if not is_remote(path) and not Path(path).exists():
        if (ending := ending_of(path)) in TABLES:
            return "manifest"
        if ending == ".parquet" or "*" in path:
            return "parquet"
    tree, name = open_place(path, "no such folder, CSV or Parquet file")
    if name:
        return _of_file(File(tree, name), names.label)
    tables, files = read_tables(tree, names)
    leading = [table for table in tables if files.lead(table)]
    labels = any(has_label_columns(each, names) for each in leading)
    walk, folder = files.walk, files.walk.tree
    labels = labels or any(names.label in each.columns for each in leading)
    if (of_pixels := _of_pixels(walk, leading, names.label, labels)) is not None:
        return of_pixels
    if any(part_of(name) == "labeled" and inner.folders for name, inner in folder.folders.items()):
        return "folder"
    if labels:
        return "manifest"
    if len({name for _, name, _ in Layout.of(folder).labeled}) > 1:
        return "folder"
    if any(is_parquet(*file) for file in walk.unused):
        return "parquet"
    return "manifest" if leading else "folder"


def _of_pixels(walk: Walk, leading: list[Table], label: str | None, labels: bool) -> str | None:
    """The source of images with masks, None where there are none; label: a column that a user
    names; labels: whether a table has labels of images. Raises SourceError where folders are named
    for masks that are of no images."""
    pairs = PairedFiles(walk)
    if any(names_masks(each, pairs, label) for each in leading):
        return "masks"
    if labels:
        return None
    if pairs.are_pairs:
        return "masks"
    if coco_files(walk):
        return "coco"
    check_pairs(pairs)
    return None


def _of_file(file: File, label: str | None) -> str:
    """By its ending; a table may name masks."""
    ending = ending_of(file.name)
    if ending in TABLES:
        table = readable(file)
        masks = table is not None and names_masks(table, PairedFiles(Walk(file.tree)), label)
        return "masks" if masks else "manifest"
    if ending == ".json":
        return "coco"
    if ending == ".parquet":
        return "parquet"
    raise SourceError(f"{file}: give a folder, a CSV, COCO's JSON or a Parquet file")


def task_of(source: str, path: str, names: ColumnNames | None = None) -> TaskName:
    """What the answers of a source at `path` are for; names: of its columns."""
    usual, *others = tasks_of(source)
    return others[0] if others and parquet_has_masks(path, names or ColumnNames()) else usual


def unread_tables(path: str) -> list[str]:
    """What to say of tables in a folder of classes that lead to its images as well."""
    tables, files = read_tables(open_tree(path), ColumnNames())
    return [
        f"{table.file.own_name} names images too and is not read; where its labels are meant, name "
        "their column with --label-column"
        for table in tables
        if files.lead(table)
    ]
