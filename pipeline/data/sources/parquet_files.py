"""Parquet files as such: found, opened, read by row group, their columns found and checked."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data.sources.columns import ColumnNames
from pipeline.data.sources.files import SYSTEM, Walk
from pipeline.data.sources.table import LABEL_NAMES, known
from pipeline.errors import SourceError
from pipeline.files import regular

ROWS_AT_ONCE = 1024
BESIDE = "beside Parquet files, which alone are read"
UNREADABLE = (OSError, ValueError, MemoryError, pa.ArrowException)  # what Arrow raises
IMAGE_NAMES = ("image", "img", "picture", "photo", "imagebytes", "bytes")


def find_parquet(path: str) -> tuple[list[Path], list[tuple[str, str]]]:
    """The Parquet files of a file, folder or glob, sorted; (name, reason) of a folder's others."""
    root = Path(path)
    if root.is_file():
        return [root], []
    if not root.is_dir():
        return sorted(Path(item) for item in glob.glob(path, recursive=True)), []  # noqa: PTH207
    walk = Walk(root)
    files, others = [], []
    for file, reason in walk.unused:
        if file.suffix.lower() == ".parquet" and reason != SYSTEM:
            files.append(file)
        else:
            others.append((walk.name(file), reason))
    others += [(walk.name(file), BESIDE) for file in walk.tree.pictures()]
    return sorted(files), others


def row_batches(file: Path, columns: list[str]) -> Iterator[Any]:
    """Yield the rows of a Parquet file as Arrow batches; raises SourceError."""
    with open_parquet(file) as opened:
        try:
            for batch in opened.iter_batches(ROWS_AT_ONCE, columns=columns):
                batch.validate(full=True)  # text that is not UTF-8, indices out of range
                yield batch
        except UNREADABLE as error:
            raise SourceError(f"{file}: can't be read ({_short(error)})") from None


def open_parquet(file: Path) -> Any:
    """The opened `pyarrow.parquet.ParquetFile`; raises SourceError where it is none."""
    try:
        return pq.ParquetFile(regular(file))
    except UNREADABLE as error:
        raise SourceError(f"{file}: not a Parquet file ({_short(error)})") from None


def image_values(column: Any, file: Path) -> list[bytes | None]:
    """The bytes of a column of images, None where there are none; raises SourceError."""
    if not _is_image(column.type):
        raise SourceError(f"{file}: column 'image' is {column.type}")
    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, "bytes")
    values: list[bytes | None] = column.to_pylist()
    return values


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def find_columns(schema: Any, file: Path, names: ColumnNames) -> dict[str, str]:
    """The column of each use that there is one for, their types checked; see COLUMNS."""
    names.check(schema.names)
    named = {"image": names.path, "label": names.label, "group": names.group}
    usual = {"image": IMAGE_NAMES, "label": LABEL_NAMES}
    columns: dict[str, str] = {}
    for use in COLUMNS:
        likely = [use] if use in schema.names else known(schema.names, usual.get(use, ()))
        if name := named.get(use) or next(iter(likely), None):
            columns[use] = name
        elif use in ("image", "label"):
            raise SourceError(f"{file}: no column {use!r}; there are {', '.join(schema.names)}")
    for use, name in columns.items():
        allowed, needed = COLUMNS[use]
        if schema.names.count(name) > 1:
            raise SourceError(f"{file}: there are two columns {name!r}; rename one")
        if not allowed(kind := schema.field(name).type):
            raise SourceError(f"{file}: column {name!r} is {kind}; it must be {needed}")
    return columns


def _is_text(kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_image(kind: Any) -> bool:
    if pa.types.is_struct(kind) and (place := kind.get_field_index("bytes")) >= 0:
        kind = kind.field(place).type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_id(kind: Any) -> bool:
    return _is_text(kind) or bool(pa.types.is_integer(kind))


COLUMNS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "image": (_is_image, "binary, or a struct with binary bytes"),
    "label": (lambda kind: _is_id(kind) or pa.types.is_null(kind), "integers or text"),
    "id": (_is_id, "text or integers"),
    "group": (_is_id, "text or integers"),
    "split": (
        lambda kind: _is_text(kind) or pa.types.is_null(kind),
        "text: train, validation or test",
    ),
}
