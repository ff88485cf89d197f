"""The schema of a Parquet file, counted before Arrow reads it.

Groups of columns may lie in each other, and Arrow, which follows them by recursion, ends the
process where they lie too deep. The footer is in Thrift's compact encoding.
"""

from __future__ import annotations

from typing import Any

LARGEST_FOOTER = 40 << 20
MOST_VALUES = 25_000_000  # in a footer: some 10 seconds
MOST_SCHEMA = 20_000  # elements
SCHEMA = 2  # the field that holds them
MAGIC = b"PAR1"
TRUE, FALSE, BYTE, DOUBLE, BYTES = 1, 2, 3, 7, 8  # kinds of values
NUMBERS, LIST, SET, STRUCTURE = (4, 5, 6), 9, 10, 12


def check_footer(file: Any, size: int) -> None:
    """Raise ValueError where the schema of an opened file of `size` bytes, or its footer, is too
    large; what else is wrong with it Arrow says."""
    end = _read(file, max(0, size - 8), 8)
    length = int.from_bytes(end[:4], "little")
    if not end.endswith(MAGIC):
        return
    if length > LARGEST_FOOTER:
        raise ValueError(f"a footer of {length:,} bytes, over {LARGEST_FOOTER >> 20} MiB")
    data = _read(file, max(0, size - 8 - length), length)
    try:
        elements = _Thrift(data).lists().get(SCHEMA, 0)
    except IndexError:
        return
    if elements > MOST_SCHEMA:
        raise ValueError(f"a schema of {elements:,} elements, over {MOST_SCHEMA:,}")


def _read(file: Any, first: int, count: int) -> bytes:
    file.seek(first)
    return bytes(file.read(count))


class _Thrift:
    """Goes through a structure as Arrow does. Raises ValueError, and IndexError behind the end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.left = data, 0, MOST_VALUES

    def lists(self) -> dict[int, int]:
        """The lengths of the lists in the structure here, by field."""
        return self._structure(0)

    def _structure(self, depth: int) -> dict[int, int]:
        if depth > 16:
            raise ValueError("nested too deeply")
        lengths, number = dict[int, int](), 0
        while byte := self.data[self.at]:
            self.at += 1
            kind, last = byte & 15, number
            number = last + (byte >> 4) if byte >> 4 else self._field()
            if not last < number < 1 << 15:  # else two readers may see two things
                raise ValueError(f"field {number} behind field {last}")
            self._count(1)
            if kind > FALSE:  # these are values themselves
                lengths[number] = self._value(kind, depth)
        self.at += 1
        return lengths

    def _value(self, kind: int, depth: int) -> int:
        """Go over a value; the length of a list."""
        if kind in NUMBERS:
            self._number()
        elif kind == STRUCTURE:
            self._structure(depth + 1)
        elif kind in (LIST, SET):
            return self._list(depth)
        elif kind in (TRUE, FALSE, BYTE, DOUBLE, BYTES):
            length = self._length() if kind == BYTES else 8 if kind == DOUBLE else 1
            self.at += length
        else:
            raise ValueError(f"an unknown type {kind}")
        return 0

    def _list(self, depth: int) -> int:
        byte = self.data[self.at]
        self.at += 1
        count, kind = self._length() if byte >> 4 == 15 else byte >> 4, byte & 15
        if kind in (LIST, SET):
            raise ValueError("a list of lists")
        self._count(count)
        for _ in range(count):
            self._value(kind, depth)
        return count

    def _count(self, values: int) -> None:
        self.left -= values
        if self.left < 0:
            raise ValueError(f"over {MOST_VALUES:,} values in its footer")

    def _field(self) -> int:
        number = self._number()
        return (number >> 1) ^ -(number & 1)

    def _length(self) -> int:
        if (length := self._number()) >= 1 << 31:
            raise ValueError(f"a length of {length:,}")
        return length

    def _number(self) -> int:
        """A number of up to 64 bits, as it is stored: by sevens, the smallest first."""
        value = shift = 0
        while (byte := self.data[self.at]) > 127:
            self.at += 1
            value |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")
        self.at += 1
        return value | byte << shift
