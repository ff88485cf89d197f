"""Images to classify, labels or not: a folder, one file, a glob, or Parquet with a column `image`.

Of a folder all files below it but hidden and systems' ones, those that are no images with their
problem; of a glob what it names. An id is the path below the folder, else the path as it was given.
Of Parquet the column `id`, else file and row.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.data.sources.parquet_files import (
    find_parquet,
    image_values,
    open_parquet,
    row_batches,
    row_name,
    text_values,
)
from pipeline.data.sources.rows import Row
from pipeline.data.trees.local import LocalTree, name_below, path_text, read_image
from pipeline.data.trees.tree import SYSTEM, File
from pipeline.data.trees.walk import Walk
from pipeline.errors import SourceError


class LooseImages:
    """What `where` names, but not `out`, a file or folder of results, and what is in it; reading it
    twice gives the same rows. Raises SourceError for nothing."""

    def __init__(self, where: str, out: Path | None = None) -> None:
        path = Path(where)
        self._root = path if path.is_dir() else None
        self._files, self._tables = _in_folder(path) if self._root else _named(where)
        if out is not None:
            results = Path(os.path.abspath(out))  # noqa: PTH100 - without a look at each file
            apart = {
                file: problem
                for file, problem in self._files.items()
                if not Path(os.path.abspath(file)).is_relative_to(results)  # noqa: PTH100
            }
            self._files = apart or self._files  # a place with nothing else is not one of results
        if not self._files and not self._tables:
            lacks = "no images" if path.exists() or re.search(r"[*?[]", where) else "no such file"
            raise SourceError(
                f"{where}: {lacks}; give a folder, a file, a glob in quotes, or Parquet files"
            )
        self._count = len(self._files)
        self._columns: dict[File, list[str]] = {}
        for table in self._tables:
            with open_parquet(table) as opened:
                names = opened.schema_arrow.names
                self._count += opened.metadata.num_rows
            if names.count("image") != 1:
                raise SourceError(f"{table}: no column 'image', or two")
            if names.count("id") > 1:
                raise SourceError(f"{table}: there are two columns 'id'")
            self._columns[table] = [name for name in ("id", "image") if name in names]

    def __len__(self) -> int:
        return self._count

    def rows(self) -> Iterator[Row]:
        """Every image with its id; one that can't be read comes with its problem."""
        for path, reason in self._files.items():
            image, problem = (b"", reason) if reason else read_image(path)
            yield Row(self._name(path), image, problem=problem)
        for table, columns in self._columns.items():
            row = 0
            for batch in row_batches(table, columns):
                images = image_values(batch["image"], table)
                ids = _ids(batch["id"], table) if "id" in columns else [None] * batch.num_rows
                for name, data in zip(ids, images, strict=True):
                    key = row_name(path_text(table.name), row) if name is None else str(name)
                    yield Row(key, data or b"", problem=None if data is not None else "no image")
                    row += 1

    def _name(self, path: Path) -> str:
        root = self._root
        return path_text(path.as_posix()) if root is None else name_below(root, path)


def _ids(column: Any, table: File) -> list[Any]:
    """The values of a column, as text but for nulls; raises SourceError for a type that is none."""
    try:
        texts = column.cast(pa.string())
    except (pa.ArrowException, ValueError, NotImplementedError):
        raise SourceError(f"{table}: column 'id' is {column.type}; it must be text") from None
    return text_values(texts, "id", table)


Files = tuple[dict[Path, str | None], list[File]]  # files and their problems; Parquet files


def _in_folder(root: Path) -> Files:
    """A folder's files that are shown, or its Parquet files where no other is an image."""
    walk = Walk(LocalTree(root))
    files: dict[str, str | None] = dict.fromkeys(walk.tree.names())
    if not files and (tables := find_parquet(str(root))[0]):
        return {}, tables
    files |= {name: reason for name, reason in walk.unused if reason != SYSTEM}
    return {
        root / name: files[name] for name in sorted(files, key=lambda name: name.split("/"))
    }, []


def _named(where: str) -> Files:
    """Image files and Parquet files; the latter only where there are none of the former."""
    path = Path(where)
    named = [path] if path.exists() else sorted(map(Path, glob.glob(where, recursive=True)))  # noqa: PTH207
    named = [item for item in named if not item.is_dir()]
    tables = [item for item in named if item.suffix == ".parquet"]
    files = dict.fromkeys(item for item in named if item not in tables)
    return files, [File(LocalTree(Path()), table.as_posix()) for table in tables]
