"""Images to classify, labels or not: a folder, one file, a glob, or Parquet with a column `image`.

Of a folder all files below it but hidden and systems' ones, those that are no images with their
problem; of a glob what it names. An id is the path below the folder, else the path as it was given.
Of Parquet the column `id`, else file and row.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.data.sources.files import SYSTEM, Walk, name_below, path_text, read_image
from pipeline.data.sources.parquet import find_parquet
from pipeline.data.sources.parquet_files import image_values, open_parquet, row_batches
from pipeline.data.sources.rows import Row
from pipeline.errors import SourceError


class LooseImages:
    """What `where` names; reading it twice gives the same rows. Raises SourceError for nothing."""

    def __init__(self, where: str) -> None:
        self._root = Path(where) if Path(where).is_dir() else None
        self._problems: dict[Path, str] = {}
        self._files, self._tables = self._folder(self._root) if self._root else _find(where)
        if not self._files and not self._tables:
            raise SourceError(
                f"{where}: no images; give a folder, a file, a glob in quotes, or Parquet files"
            )
        self._count = len(self._files)
        for table in self._tables:
            with open_parquet(table) as opened:
                if "image" not in opened.schema_arrow.names:
                    raise SourceError(f"{table}: no column 'image'")
                self._count += opened.metadata.num_rows

    def __len__(self) -> int:
        return self._count

    def rows(self) -> Iterator[Row]:
        """Every image with its id; one that can't be read comes with its problem."""
        for path in self._files:
            problem = self._problems.get(path)
            image, problem = (b"", problem) if problem else read_image(path)
            yield Row(self._name(path), image, problem=problem)
        for table in self._tables:
            yield from self._table_rows(table)

    def _folder(self, root: Path) -> tuple[list[Path], list[Path]]:
        """A folder's files that are shown, or its Parquet files where no other is an image."""
        walk = Walk(root)
        pictures = list(walk.tree.pictures())
        if not pictures and (tables := find_parquet(str(root))[0]):
            return [], tables
        self._problems = {path: reason for path, reason in walk.unused if reason != SYSTEM}
        return sorted([*pictures, *self._problems]), []

    def _table_rows(self, table: Path) -> Iterator[Row]:
        with open_parquet(table) as opened:
            columns = [name for name in ("id", "image") if name in opened.schema_arrow.names]
        first = 0
        for batch in row_batches(table, columns):
            images: list[Any] = image_values(batch.column("image"), table)
            ids = batch.column("id").to_pylist() if "id" in columns else [None] * len(images)
            for place, (name, image) in enumerate(zip(ids, images, strict=True), first):
                problem = None if image is not None else "no image"
                unnamed = f"{self._name(table)}:{place}"
                yield Row(unnamed if name is None else str(name), image or b"", problem=problem)
            first += batch.num_rows

    def _name(self, path: Path) -> str:
        root = self._root
        return path_text(path.as_posix()) if root is None else name_below(root, path)


def _find(where: str) -> tuple[list[Path], list[Path]]:
    """Image files and Parquet files; the latter only where there are none of the former."""
    path = Path(where)
    named = [path] if path.exists() else sorted(map(Path, glob.glob(where, recursive=True)))  # noqa: PTH207
    named = [item for item in named if not item.is_dir()]
    tables = [item for item in named if item.suffix == ".parquet"]
    return [item for item in named if item.suffix != ".parquet"], tables
