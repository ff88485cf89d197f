"""Images in Parquet: columns `image`, `label`, and optionally `id` and `split`.

`path` is a file, a folder or a glob. An image is bytes, or the struct of bytes and path that
Hugging Face writes. A label is a class's number or name, null where unlabelled. Class names come
from `classes` in the schema's metadata (a JSON list, or `a|b|c`), else from the labels. Read by
row group.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data.sources.rows import Row
from pipeline.errors import SourceError

ROWS_AT_ONCE = 1024
MOST_CLASSES = 100_000
UNREADABLE = (OSError, ValueError, MemoryError, pa.ArrowException)  # what Arrow raises


class ParquetSource:
    """The rows of one Parquet file or of many, in the order of their paths."""

    name = "parquet"

    def __init__(self, path: str | Path) -> None:
        self._files = _find(str(path))
        self._root = Path(os.path.commonpath([file.parent for file in self._files]))
        self._rows = 0
        self._columns: dict[Path, list[str]] = {}
        for file in self._files:
            with open_parquet(file) as opened:
                self._columns[file] = _checked_columns(opened.schema_arrow, file)
                self._rows += opened.metadata.num_rows
        self._classes = self._find_classes()
        self._numbers = {name: number for number, name in enumerate(self._classes)}

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the labels."""
        return list(self._classes)

    def __len__(self) -> int:
        return self._rows

    def rows(self) -> Iterator[Row]:
        """Every row of every file; without a column `id` its file and row make the id."""
        for file in self._files:
            first = 0
            for batch in row_batches(file, self._columns[file]):
                yield from self._batch_rows(batch, file, first)
                first += batch.num_rows

    def _batch_rows(self, batch: Any, file: Path, first: int) -> Iterator[Row]:
        images = image_values(batch.column("image"), file)
        ids, labels, splits = (_values(batch, name) for name in ("id", "label", "split"))
        for place in range(batch.num_rows):
            row = f"{file.relative_to(self._root).as_posix()}:{first + place}"
            name = ids[place] if "id" in batch.schema.names else row
            if name is None:
                raise SourceError(f"{file}: row {first + place}: id is null")
            yield Row(
                id=str(name),
                image=images[place] or b"",
                label=self._label(labels[place], f"{file}: row {first + place}"),
                split=splits[place],
                problem=None if images[place] is not None else "no image",
            )

    def _label(self, value: Any, where: str) -> int | None:
        if value is None:
            return None
        number = self._numbers.get(value, -1) if isinstance(value, str) else int(value)
        if not 0 <= number < len(self._classes):
            raise SourceError(
                f"{where}: label {value!r}: not one of the {len(self._classes)} classes "
                f"(null is unlabelled)"
            )
        return number

    def _find_classes(self) -> list[str]:
        named = {file: _named_classes(file) for file in self._files}
        found = [names for names in named.values() if names is not None]
        if found and any(names != found[0] for names in found):
            raise SourceError("the Parquet files name different classes in their metadata")
        if found:
            return found[0]
        values: set[Any] = set()
        for file in self._files:
            for batch in row_batches(file, ["label"]):
                values.update(pc.unique(batch.column("label")).to_pylist())
                if len(values) > MOST_CLASSES:
                    raise SourceError(f"{file}: more than {MOST_CLASSES} different labels")
        return _classes_of(values - {None}, self._files[0])


def _find(path: str) -> list[Path]:
    where = Path(path)
    if where.is_dir():
        files = sorted(item for item in where.rglob("*.parquet") if not item.name.startswith("."))
    elif where.is_file():
        files = [where]
    else:
        files = sorted(Path(item) for item in glob.glob(path, recursive=True))  # noqa: PTH207
    if not files:
        raise SourceError(f"data.path = {path!r}: no Parquet file, folder of them or glob")
    return files


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


def _checked_columns(schema: Any, file: Path) -> list[str]:
    """The columns of use in this file, their types checked."""
    for name in ("image", "label"):
        if name not in schema.names:
            raise SourceError(f"{file}: no column {name!r}; there are {', '.join(schema.names)}")
    for name in (used := [name for name in COLUMNS if name in schema.names]):
        allowed, wanted = COLUMNS[name]
        if schema.names.count(name) > 1:
            raise SourceError(f"{file}: there are two columns {name!r}; rename one")
        if not allowed(kind := schema.field(name).type):
            raise SourceError(f"{file}: column {name!r} is {kind}; it must be {wanted}")
    return used


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


def _values(batch: Any, name: str) -> list[Any]:
    if name not in batch.schema.names:
        return [None] * batch.num_rows
    values: list[Any] = batch.column(name).to_pylist()
    return values


def _named_classes(file: Path) -> list[str] | None:
    """The class names in the schema's metadata, None where there are none."""
    with open_parquet(file) as opened:
        text = (opened.schema_arrow.metadata or {}).get(b"classes")
    if text is None:
        return None
    names: list[str] = []
    with suppress(ValueError, RecursionError):
        names = json.loads(text) if text.lstrip().startswith(b"[") else text.decode().split("|")
    if len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise SourceError(f"{file}: metadata 'classes' is not a JSON list of names, or a|b|c")
    if len(set(names)) != len(names):
        raise SourceError(f"{file}: metadata 'classes' names a class twice")
    return names


def _classes_of(labels: set[Any], file: Path) -> list[str]:
    """Class names where only the labels tell: sorted names, or "0" to the largest number."""
    if not labels:
        raise SourceError(f"{file}: no labelled images: every label is null")
    if all(isinstance(label, str) for label in labels):
        return sorted(labels)
    if any(isinstance(label, str) for label in labels):
        raise SourceError(f"{file}: labels are numbers in some files and names in others")
    if min(labels) < 0:
        raise SourceError(f"{file}: label {min(labels)}: numbers start at 0; null is unlabelled")
    if max(labels) >= MOST_CLASSES:
        raise SourceError(f"{file}: label {max(labels)}: numbers must be under {MOST_CLASSES}")
    return [str(number) for number in range(max(labels) + 1)]


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
