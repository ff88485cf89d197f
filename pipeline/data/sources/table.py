"""A table as text: its separator and its encoding are found in its content."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SourceError
from pipeline.files import read_bytes

LISTS = ".txt"  # a table only where it leads to files
TABLES = (".csv", ".tsv", ".tab", ".psv", LISTS)
SEPARATORS = (",", ";", "\t", "|")
ROWS_COMPARED = 50  # to find the separator
MOST_COLUMNS = 5000
PATH_NAMES = (
    *("path", "filepath", "imagepath", "imgpath", "filename", "file", "imagefile", "imgfile"),
    *("imagefilename", "imagename", "imgname", "image", "img", "imageid", "imgid", "photo", "id"),
)
LABEL_NAMES = (
    *("label", "labels", "labelname", "class", "classname", "classlabel", "category"),
    *("categoryname", "target", "groundtruth"),
)
SPLIT_NAMES = ("split", "set", "subset", "partition", "dataset", "phase", "usage")


@dataclass(frozen=True)
class Table:
    """A table's cells, without space around them; headed: whether the file names its columns."""

    path: Path
    columns: list[str]
    rows: list[list[str]]
    headed: bool = True

    def line(self, row: int) -> int:
        """The number of a row in the file, from 1."""
        return row + 1 + self.headed

    def where(self, row: int) -> str:
        """A row's place, for messages."""
        return f"{self.path}: row {self.line(row)}"

    def without_header(self) -> Table:
        """The same with its first row as one of values: columns are "column 1", "column 2"."""
        rows = [self.columns, *self.rows]
        columns = [f"column {number + 1}" for number in range(max(map(len, rows)))]
        return Table(self.path, columns, rows, headed=False)

    def values(self, column: str) -> list[str]:
        """One column's cells, "" where a row is short."""
        place = self.columns.index(column)
        return [row[place] if place < len(row) else "" for row in self.rows]

    def check_cells(self, column: str) -> None:
        """Raise SourceError where a row has more cells than the header, or a quote is left open."""
        for row, value in enumerate(self.values(column)):
            if any(self.rows[row][len(self.columns) :]):
                raise SourceError(
                    f"{self.where(row)}: has more cells than there are columns; put quotes around "
                    "a text that holds the separator"
                )
            if "\n" in value:
                raise SourceError(f"{self.where(row)}: {value[:40]!r}…: a quote is not closed")


def plain(name: str) -> str:
    """A column's name to compare: lower case, letters and digits alone."""
    return "".join(c for c in name.lower() if c.isalnum())


def known(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns whose names are among `names`, in the order of these."""
    plains = [(plain(column), column) for column in columns]
    return [column for name in names for found, column in plains if found == name]


def read_table(path: Path) -> Table:
    """Read a table whole; raises SourceError where it can't be."""
    try:
        text = _text(read_bytes(path)).replace("\r\n", "\n").replace("\r", "\n")
        lines = text.splitlines(keepends=True)
        rows = [[cell.strip() for cell in row] for row in _cells(lines, _separator(lines))]
    except OSError as error:
        raise SourceError(f"{path}: can't be read ({error.strerror})") from None
    except csv.Error as error:
        raise SourceError(f"{path}: can't be read as a table ({error})") from None
    rows = [row for row in rows if any(row)]
    if not rows:
        raise SourceError(f"{path}: holds no rows; needs columns path and label")
    if (columns := max(map(len, rows))) > MOST_COLUMNS:
        raise SourceError(f"{path}: {columns} columns, over {MOST_COLUMNS}; no table of labels")
    return Table(path, rows[0], rows[1:])


def _text(data: bytes) -> str:
    """The text of bytes in UTF-8, UTF-16 or, where they are neither, Windows-1252."""
    if data.startswith(codecs.BOM_UTF8):
        return data.decode("utf-8-sig", "replace")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    half = len(data[:2000]) // 2
    for odd, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if half and data[odd : 2 * half : 2].count(0) > half // 2:
            return data.decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _cells(lines: list[str], separator: str) -> list[list[str]]:
    return list(csv.reader(lines, delimiter=separator, skipinitialspace=True))


def _separator(lines: list[str]) -> str:
    """The separator under which the first rows fit the header best; a space where no other does."""

    def fit(separator: str) -> tuple[int, float, int]:
        try:
            rows = _cells(lines[:ROWS_COMPARED], separator) or [[]]
        except csv.Error:
            return 0, 0.0, 0
        header = [cell.strip() for cell in rows[0][: MOST_COLUMNS + 1]]
        names = sum(bool(known(header, names)) for names in (PATH_NAMES, LABEL_NAMES))
        alike = sum(len(row) == len(header) for row in rows) / len(rows)
        return names, alike if len(header) > 1 else 0.0, len(header)

    best = max(SEPARATORS, key=fit)
    return best if fit(best)[2] > 1 else max(best, " ", key=fit)
