"""Parquet files of a few kilobytes that claim gigabytes; the last by hand, in Thrift's encoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def repeated(path: Path, rows: int = 600, size: int = 2 << 20) -> None:
    """One image of `size` bytes in each row, once in the file."""
    image = pa.array([b"\0" * size])
    images = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), image)
    pq.write_table(pa.table({"image": images}), path, compression="zstd", store_schema=False)


def expanding(path: Path, size: int = 672 << 20) -> None:
    """A page of zeros."""
    table = pa.table({"image": [b"\0" * size]})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)


def delta(path: Path) -> None:
    """Texts whose lengths stand in a stream that says itself how many they are."""
    encodings = {"image": "DELTA_LENGTH_BYTE_ARRAY"}
    table = pa.table({"image": [b""] * 9})
    pq.write_table(table, path, use_dictionary=False, column_encoding=encodings)


def nested(path: Path, depth: int = 50_000) -> None:
    """A schema of groups in each other, at which Arrow would end its process."""
    group = _fields((3, 5, _number(0)), (4, 8, b"\1g"), (5, 5, _number(1)))
    leaf = _fields((1, 5, _number(6)), (3, 5, _number(0)), (4, 8, b"\5image"))
    _write(path, _items([group] * depth + [leaf]), _items([]))


def many_chunks(path: Path, groups: int = 30, columns: int = 100_000) -> None:
    """Row groups of columns of three bytes each, which take a kilobyte each in memory."""
    root = _fields((4, 8, b"\1s"), (5, 5, _number(1)))
    leaf = _fields((1, 5, _number(6)), (3, 5, _number(0)), (4, 8, b"\5image"))
    chunks = _items([_fields((2, 6, _number(0)))] * columns)
    group = _fields((1, 9, chunks), (2, 6, _number(0)), (3, 6, _number(0)))
    _write(path, _items([root, leaf]), _items([group] * groups))


def lists(path: Path) -> None:
    """Lists in each other."""
    _write(path, b"\x19" * 5000, _items([]))


def contradicting(path: Path) -> None:
    """A column with more levels counted than it has, on whose sight pyarrow ends its process."""
    root = _fields((4, 8, b"\1s"), (5, 5, _number(1)))
    leaf = _fields((1, 5, _number(6)), (3, 5, _number(0)), (4, 8, b"\5image"))
    levels = _fields((3, 9, b"\x26" + 2 * _number(1)))
    column = _fields(
        (1, 5, _number(6)),
        (2, 9, b"\x15" + _number(0)),
        (3, 9, b"\x18\5image"),
        *((number, 6 if number > 4 else 5, _number(1)) for number in (4, 5, 6, 7)),
        (9, 6, _number(4)),
        (16, 12, levels),
    )
    chunk = _fields((2, 6, _number(4)), (3, 12, column))
    group = _fields((1, 9, _items([chunk])), (2, 6, _number(1)), (3, 6, _number(1)))
    _write(path, _items([root, leaf]), _items([group]))


def twice(path: Path) -> None:
    """Two schemas, of which a reader may take either."""
    leaf = _fields((1, 5, _number(6)), (3, 5, _number(0)), (4, 8, b"\5image"))
    second = _items([leaf]) + b"\x09" + _number(2) + _items([leaf] * 2)
    _write(path, second, _items([]))


def prefix(path: Path) -> None:
    """A column whose name is the path of the images in another, and which Arrow would read too."""
    columns = {"image": [{"bytes": b"1"}], "image.bytes": [[b""] * 9]}
    pq.write_table(pa.table(columns), path)


def a_list(path: Path) -> None:
    """One row of many images."""
    pq.write_table(pa.table({"image": [[b""] * 9]}), path)


def write(path: Path, columns: dict[str, Any], **metadata: str) -> Path:
    """A table with this metadata."""
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path


def _write(path: Path, schema: bytes, groups: bytes) -> None:
    footer = _fields((1, 5, _number(2)), (2, 9, schema), (3, 6, _number(0)), (4, 9, groups))
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + _varint(number >> 7)


def _number(number: int) -> bytes:
    return _varint(number << 1)


def _fields(*fields: tuple[int, int, bytes]) -> bytes:
    """A structure of (number, type, value), with no gaps of more than 15."""
    last, data = 0, b""
    for number, kind, value in fields:
        data += bytes([(number - last) << 4 | kind]) + value
        last = number
    return data + b"\0"


def _items(structures: list[bytes]) -> bytes:
    return b"\xfc" + _varint(len(structures)) + b"".join(structures)
