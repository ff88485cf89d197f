"""Parquet files as such: opened, read by row group, their columns found and checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data.sources.columns import Wanted, check_named
from pipeline.data.sources.table import LABEL_NAMES, known
from pipeline.errors import SourceError

ROWS_AT_ONCE = 1024
UNREADABLE = (OSError, ValueError, MemoryError, pa.ArrowException)  # what Arrow raises
IMAGE_NAMES = ("image", "img", "picture", "photo", "imagebytes", "bytes")


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
        return pq.ParquetFile(file)
    except UNREADABLE as error:
        raise SourceError(f"{file}: not a Parquet file ({_short(error)})") from None


def find_columns(schema: Any, file: Path, wanted: Wanted) -> dict[str, str]:
    """The column of each use that there is one for, their types checked; see COLUMNS."""
    for parameter, name in vars(wanted).items():
        if name is not None:
            check_named(name, f"data.{parameter}_column", schema.names)
    asked = {"image": wanted.path, "label": wanted.label, "group": wanted.group}
    found = {use: name for use in COLUMNS if (name := asked.get(use) or _named(schema.names, use))}
    for use in ("image", "label"):
        if use not in found:
            raise SourceError(f"{file}: no column {use!r}; there are {', '.join(schema.names)}")
    for use, name in found.items():
        _check_column(schema, file, use, name)
    return found


def _named(names: Sequence[str], use: str) -> str | None:
    """The column that is named as its use, or nearly so."""
    if use in names:
        return use
    usual = {"image": IMAGE_NAMES, "label": LABEL_NAMES}.get(use, ())
    return next(iter(known(names, usual)), None)


def _check_column(schema: Any, file: Path, use: str, name: str) -> None:
    allowed, wanted = COLUMNS[use]
    if schema.names.count(name) > 1:
        raise SourceError(f"{file}: there are two columns {name!r}; rename one")
    if not allowed(kind := schema.field(name).type):
        raise SourceError(f"{file}: column {name!r} is {kind}; it must be {wanted}")


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_split(kind: Any) -> bool:
    return _is_text(kind) or bool(pa.types.is_null(kind))


def _is_id(kind: Any) -> bool:
    return _is_text(kind) or bool(pa.types.is_integer(kind))


def _is_label(kind: Any) -> bool:
    return _is_text(kind) or bool(pa.types.is_integer(kind) or pa.types.is_null(kind))


def _is_bytes(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_image(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type)
    return _is_bytes(kind)


COLUMNS = {
    "image": (_is_image, "binary, or a struct with binary bytes"),
    "label": (_is_label, "integers or text"),
    "id": (_is_id, "text or integers"),
    "group": (_is_id, "text or integers"),
    "split": (_is_split, "text: train, validation or test"),
}


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
