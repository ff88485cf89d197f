"""A table as text: its separator and its encoding are found in its content."""

from __future__ import annotations

import codecs
import csv
import errno
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from pipeline.data.trees.names import Names
from pipeline.data.trees.tree import File
from pipeline.errors import SourceError
from pipeline.files import BLOCK, LARGEST_FILE

LISTS = ".txt"  # a table only where it leads to files
TABLES = (".csv", ".tsv", ".tab", ".psv", LISTS)
SEPARATORS = (",", ";", "\t", "|")
ROWS_COMPARED = 50  # to find the separator
MOST_COLUMNS, MOST_ROWS = 5000, 5_000_000
LONGEST_ROW = 1 << 20  # characters
MOST_IN_MEMORY = 768 << 20  # bytes of the cells, about
TEXT_BYTES, CELL_BYTES = 49, 24  # of a text beside its letters; of what leads to it
TEXTS_COMPARED = 10_000  # of a column
PATH_NAMES = (
    *("path", "filepath", "imagepath", "imgpath", "filename", "file", "imagefile", "imgfile"),
    *("imagefilename", "imagename", "imgname", "image", "img", "imageid", "imgid", "photo", "id"),
)
LABEL_NAMES = (
    *("label", "labels", "labelname", "class", "classname", "classlabel", "category"),
    *("categoryname", "target", "groundtruth"),
)
MASK_NAMES = (
    *("mask", "maskpath", "maskfile", "maskfilename", "maskname", "label", "labelpath"),
    *("segmentation", "segmentationpath", "annotation", "annotationpath", "target", "gt"),
    *("segmentationmask", "semanticsegmentation", "labelmask"),
)
SPLIT_NAMES = ("split", "set", "subset", "partition", "dataset", "phase", "usage")


@dataclass(frozen=True)
class Table:
    """A table's cells by column, without space around them, "" where a row is short.

    length: its rows; even: all of them, and the header, have as many cells; crowded: the first row
    with something behind the header's last column; headed: whether the file names its columns.
    """

    file: File
    columns: list[str]
    cells: list[Names]
    length: int
    even: bool
    crowded: int | None = None
    headed: bool = True

    def line(self, row: int) -> int:
        """The number of a row in the file, from 1."""
        return row + 1 + self.headed

    def where(self, row: int) -> str:
        """A row's place, for messages."""
        return f"{self.file}: row {self.line(row)}"

    def without_header(self) -> Table:
        """The same, even, with its first row as one of values: columns are "column 1", …."""
        columns = [f"column {number + 1}" for number in range(len(self.columns))]
        cells = [
            Names(chain([name], values))
            for name, values in zip(self.columns, self.cells, strict=True)
        ]
        return Table(self.file, columns, cells, self.length + 1, even=True, headed=False)

    def values(self, column: str) -> Names:
        """One column's cells."""
        return self.cells[self.columns.index(column)]

    def check_cells(self, column: str) -> None:
        """Raise SourceError where a row has more cells than the header, or a quote is left open."""
        values = self.values(column)
        open_quote = next((row for row, value in enumerate(values) if "\n" in value), None)
        if self.crowded is not None and (open_quote is None or self.crowded <= open_quote):
            raise SourceError(
                f"{self.where(self.crowded)}: has more cells than there are columns; put quotes "
                "around a text that holds the separator"
            )
        if open_quote is not None:
            shown = f"{values[open_quote][:40]!r}…"
            raise SourceError(f"{self.where(open_quote)}: {shown}: a quote is not closed")


def plain(name: str) -> str:
    """A column's name to compare: lower case, letters and digits alone."""
    return "".join(c for c in name.lower() if c.isalnum())


def known(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns whose names are among `names`, in the order of these."""
    plains = [(plain(column), column) for column in columns]
    return [column for name in names for found, column in plains if found == name]


def read_table(file: File) -> Table:
    """Read a table row by row; raises SourceError where it can't be, or is over a limit."""
    try:
        encoding = _encoding(file)
        separator = _separator(_first(_lines(file, encoding)))
        rows = _rows(file, _lines(file, encoding), separator)
        if (header := next(rows, None)) is not None:
            return _collected(file, header, rows)
    except OSError as error:
        raise SourceError(f"{file}: can't be read ({error.strerror})") from None
    except csv.Error as error:
        raise SourceError(f"{file}: can't be read as a table ({error})") from None
    raise SourceError(f"{file}: holds no rows; needs columns path and label")


def _collected(file: File, header: list[str], rows: Iterator[list[str]]) -> Table:
    """The rows by column; of their memory a text that comes often counts once."""
    width, length, even, crowded, taken = len(header), 0, True, None, 0
    cells = [Names() for _ in header]
    known: list[dict[str, str]] = [{} for _ in header]
    for row in rows:
        even = even and len(row) == width
        if len(row) != width:
            if crowded is None and any(row[width:]):
                crowded = length
            row = (row + [""] * width)[:width]
        for values, texts, cell in zip(cells, known, row, strict=True):
            text = texts.get(cell)
            if text is None:
                text = cell
                taken += len(cell) + TEXT_BYTES
                if len(texts) < TEXTS_COMPARED:
                    texts[cell] = cell
            values.append(text)
        length += 1
        taken += CELL_BYTES * width
        if taken > MOST_IN_MEMORY:
            raise SourceError(
                f"{file}: row {length + 1}: over {MOST_IN_MEMORY >> 20} MiB in memory; keep the "
                "columns of use, or make several sources of it"
            )
    return Table(file, header, cells, length, even, crowded)


def _encoding(table: File) -> str:
    """UTF-8, UTF-16 or, where the bytes are neither, Windows-1252."""
    with table.tree.opened(table.name) as (file, size):
        if size > LARGEST_FILE:
            raise OSError(errno.EFBIG, f"larger than {LARGEST_FILE >> 20} MiB")
        block = file.read(min(size, BLOCK))
        if block.startswith(codecs.BOM_UTF8):
            return "utf-8-sig"
        if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        half = len(block[:2000]) // 2
        for odd, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            if half and block[odd : 2 * half : 2].count(0) > half // 2:
                return encoding
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while block:
                decoder.decode(block)
                size -= len(block)
                block = file.read(min(size, BLOCK))
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8"


def _lines(table: File, encoding: str) -> Iterator[str]:
    """The lines with their ends; of one that is too long, its beginning."""
    with table.tree.opened(table.name) as (file, size):
        text = io.TextIOWrapper(file, encoding, "replace", newline=None)
        while size and (line := text.readline(LONGEST_ROW + 1)):
            yield from line.splitlines(keepends=True)


def _first(lines: Iterator[str]) -> list[str]:
    """The lines by which the separator is found: few, and not over LONGEST_ROW together."""
    first, length = list[str](), 0
    for line in islice(lines, ROWS_COMPARED):
        length += len(line)
        if first and length > LONGEST_ROW:
            break
        first.append(line)
    return first


def _rows(file: File, lines: Iterator[str], separator: str) -> Iterator[list[str]]:
    """The rows that are not empty, their cells stripped; raises SourceError over the limits."""
    length = 0

    def counted() -> Iterator[str]:
        nonlocal length
        for line in lines:
            length += len(line)
            if length > LONGEST_ROW:
                raise csv.Error(f"a row of over {LONGEST_ROW:,} characters")
            yield line

    for number, row in enumerate(_cells(counted(), separator)):
        length = 0
        if number > MOST_ROWS:
            raise SourceError(f"{file}: over {MOST_ROWS:,} rows; make several sources of it")
        if len(row) > MOST_COLUMNS:
            raise SourceError(
                f"{file}: {len(row)} columns, over {MOST_COLUMNS}; no table of labels"
            )
        cells = [cell.strip() for cell in row]
        if any(cells):
            yield cells


def _cells(lines: Iterable[str], separator: str) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter=separator, skipinitialspace=True)


def _separator(lines: list[str]) -> str:
    """The separator under which the first rows fit the header best; a space where no other does."""

    def fit(separator: str) -> tuple[int, float, int]:
        try:
            rows = list(_cells(lines, separator)) or [[]]
        except csv.Error:
            return 0, 0.0, 0
        header = [cell.strip() for cell in rows[0][: MOST_COLUMNS + 1]]
        names = sum(bool(known(header, names)) for names in (PATH_NAMES, LABEL_NAMES))
        alike = sum(len(row) == len(header) for row in rows) / len(rows)
        return names, alike if len(header) > 1 else 0.0, len(header)

    best = max(SEPARATORS, key=fit)
    return best if fit(best)[2] > 1 else max(best, " ", key=fit)
