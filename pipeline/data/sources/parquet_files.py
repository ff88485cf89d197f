"""Parquet files as such: found, opened, read by row group, their columns found and checked."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data.sources.columns import ColumnNames
from pipeline.data.sources.parquet_footer import check_footer
from pipeline.data.sources.rows import listed
from pipeline.data.sources.table import LABEL_NAMES, MASK_NAMES, MOST_COLUMNS, known
from pipeline.data.trees import open_place
from pipeline.data.trees.local import LocalTree, path_text
from pipeline.data.trees.names import Unused
from pipeline.data.trees.tree import SYSTEM, File, ending_of, is_remote, local_path
from pipeline.data.trees.walk import Walk
from pipeline.errors import ParameterError, SourceError
from pipeline.memory import memory_limited

ROWS_AT_ONCE, FEWER = 1024, 16  # so many times fewer where they take too much
BYTES_AT_ONCE = 64 << 20
ROWS_OF_SPAN, GROUPS_OF_SPAN = 1 << 16, 256  # row groups are read together up to so many
BUFFER = 1 << 20
MEMORY = 640 << 20  # for Arrow, beside what is there
TOO_LARGE = (
    f"a row takes over {MEMORY >> 20} MiB with the pages that it is in; write smaller row groups, "
    "as DataFrame.to_parquet(..., row_group_size=50)"
)
LONGEST_TEXT = 4096  # bytes of an id, a label, a group or a split
BESIDE = "beside Parquet files, which alone are read"
UNREADABLE = (OSError, ValueError, MemoryError, pa.ArrowException)  # what Arrow raises
IMAGE_NAMES = ("image", "img", "picture", "photo", "imagebytes", "bytes")


def find_parquet(path: str) -> tuple[list[File], Unused]:
    """The Parquet files of a file, folder or glob, sorted; (name, reason) of a folder's others."""
    path = local_path(path)
    if not is_remote(path) and not Path(path).is_dir():
        found = [path] if Path(path).is_file() else glob.glob(path, recursive=True)  # noqa: PTH207
        tree = LocalTree(Path())
        return [File(tree, each.as_posix()) for each in sorted(map(Path, found))], Unused()
    root, name = open_place(path)
    if name:
        return [File(root, name)], Unused()
    walk = Walk(root)
    files, others = list[File](), Unused()
    for name, reason in walk.unused:
        if is_parquet(name, reason):
            files.append(File(walk.files, name))
        else:
            others.extend([(path_text(name), reason)])
    others.extend((path_text(name), BESIDE) for name in walk.tree.names())
    return files, others


def is_parquet(name: str, reason: str) -> bool:
    """Whether an unused file of a tree is one of Parquet, not hidden."""
    return ending_of(name) == ".parquet" and reason != SYSTEM


def common_folder(files: Sequence[File]) -> str:
    """The folder that all of the files lie in, in their tree."""
    return os.path.commonpath([os.path.dirname(file.name) for file in files])  # noqa: PTH120


def name_in(folder: str, file: File) -> str:
    """A file's name below a folder of its tree."""
    return file.name[len(folder) :].lstrip("/")


def row_batches(
    file: File, columns: list[str], first: int = 0, stop: int = sys.maxsize
) -> Iterator[Any]:
    """Yield the rows of a Parquet file as Arrow batches of few bytes; raises SourceError.

    first, stop: of the rows, all but those between them being passed over by row groups.

    Of a struct of images the bytes alone are read. Arrow gets little memory: a page of a few bytes
    may expand to 2 GB, and a value of a dictionary stand in every row. Where it does not do, or a
    batch is large, fewer rows are read at once.
    """
    with open_parquet(file) as opened:
        try:
            leaves, rows = _leaves(opened, columns, file), ROWS_AT_ONCE
            for start, groups in _spans(opened.metadata, first, stop):
                done, end = max(0, first - start), stop - start
                while done < end:
                    try:
                        for batch in _batches(opened, rows, groups, leaves, done):
                            yield batch.slice(0, end - done)
                            done += batch.num_rows
                            del batch
                            if done >= end:
                                break
                        else:
                            break
                    except MemoryError:
                        if rows == 1:
                            raise ValueError(TOO_LARGE) from None
                        rows = max(1, rows // FEWER)
        except UNREADABLE as error:
            raise SourceError(f"{file}: can't be read ({_short(error)})") from None


def _batches(
    opened: Any, rows: int, groups: list[int], leaves: list[str], done: int
) -> Iterator[Any]:
    """Yield the rows of these row groups after the first `done`; raises MemoryError where so many
    at once take over MEMORY, or several over BYTES_AT_ONCE."""
    batches = opened.iter_batches(rows, row_groups=groups, columns=leaves, use_threads=False)
    while True:
        with memory_limited(MEMORY):
            batch = next(batches, None)
            if batch is None:
                return
            batch.validate(full=True)  # text that is not UTF-8, indices out of range
        if rows > 1 and batch.nbytes > BYTES_AT_ONCE:
            raise MemoryError
        if batch.num_rows > done:
            yield batch.slice(done)
        done = max(0, done - batch.num_rows)


def _spans(metadata: Any, first: int, stop: int) -> Iterator[tuple[int, list[int]]]:
    """Row groups that follow each other, to be read in one go, with their first row: Arrow takes
    long to start; only those with rows from `first` to before `stop`."""
    groups, rows, start = list[int](), 0, 0
    for group in range(metadata.num_row_groups):
        count = metadata.row_group(group).num_rows
        if start + rows + count <= first:
            start += count
            continue
        if start + rows >= stop:
            break
        groups.append(group)
        rows += count
        if rows >= ROWS_OF_SPAN or len(groups) == GROUPS_OF_SPAN:
            yield start, groups
            groups, start, rows = [], start + rows, 0
    if groups:
        yield start, groups


def _leaves(opened: Any, columns: list[str], file: File) -> list[str]:
    """The path in the file's own schema of what is read of each column; raises SourceError for
    lists, of which one row may hold any number of values."""
    schema, leaves = opened.metadata.schema, list[str]()
    found = [schema.column(number) for number in range(len(schema))]
    for name in columns:
        kind = opened.schema_arrow.field(name).type
        leaf = f"{name}.bytes" if pa.types.is_struct(kind) else name
        meant = [each for each in found if f"{each.path}.".startswith(f"{leaf}.")]  # as Arrow does
        if len(meant) != 1 or meant[0].path != leaf or meant[0].max_repetition_level:
            raise SourceError(f"{file}: column {name!r} is {kind}, or there are two")
        leaves.append(leaf)
    return leaves


def open_parquet(file: File) -> Any:
    """The opened `pyarrow.parquet.ParquetFile`; raises SourceError where it is none."""
    pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own keeps space that no limit sees
    try:
        source = file.tree.source(file.name)
        with file.tree.opened(file.name) as (footer, size):
            check_footer(footer, size)
        with memory_limited(MEMORY):
            # A page at a time.
            opened = pq.ParquetFile(source, pre_buffer=False, buffer_size=BUFFER)
    except UNREADABLE as error:
        raise SourceError(f"{file}: not a Parquet file ({_short(error)})") from None
    if (count := opened.metadata.num_columns) > MOST_COLUMNS:
        raise SourceError(f"{file}: {count} columns, over {MOST_COLUMNS}; no table of images")
    return opened


def row_name(file: str, row: int) -> str:
    """The id of a row where there is no column `id`; file: below the source's folder."""
    return f"{file}:{row}"


def image_values(column: Any, file: File) -> Iterator[bytes | None]:
    """The bytes of a column of images, None where there are none; raises SourceError."""
    if not _is_image(column.type):
        raise SourceError(f"{file}: column 'image' is {column.type}")
    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, "bytes")
    return (value.as_py() for value in column)


def text_values(column: Any, name: str, file: File) -> list[Any]:
    """The values of a column of text or whole numbers; raises SourceError for a long text."""
    if _is_text(column.type):
        texts = column.dictionary if pa.types.is_dictionary(column.type) else column
        if (longest := pc.max(pc.binary_length(texts)).as_py() or 0) > LONGEST_TEXT:
            raise SourceError(
                f"{file}: column {name!r} has a text of {longest:,} bytes, over {LONGEST_TEXT:,}"
            )
    values: list[Any] = column.to_pylist()
    return values


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def find_columns(
    schema: Any, file: File, names: ColumnNames, *, masks: bool = False
) -> dict[str, str]:
    """The column of each use that there is one for, their types checked; see COLUMNS; masks: a
    label is one."""
    names.check(schema.names)
    named = {"image": names.path, "label": names.label, "group": names.group}
    usual = {"image": IMAGE_NAMES, "label": LABEL_NAMES}
    columns: dict[str, str] = {}
    for use in COLUMNS:
        likely = [use] if use in schema.names else known(schema.names, usual.get(use, ()))
        if masks and use == "label":
            likely = mask_columns(schema)
        if name := named.get(use) or next(iter(likely), None):
            columns[use] = name
        elif use in ("image", "label"):
            needed = "mask" if masks and use == "label" else use
            task = "; set task: segmentation" if use == "label" and mask_columns(schema) else ""
            there = listed(schema.names)
            raise SourceError(f"{file}: no column {needed!r}; there are {there}{task}")
    for use, name in columns.items():
        allowed, needed = COLUMNS["image" if masks and use == "label" else use]
        if schema.names.count(name) > 1:
            raise SourceError(f"{file}: there are two columns {name!r}; rename one")
        if not allowed(kind := schema.field(name).type):
            raise SourceError(f"{file}: column {name!r} is {kind}; it must be {needed}")
    return columns


def parquet_has_masks(path: str, names: ColumnNames) -> bool:
    """Whether the first of the Parquet files has a column of masks, and none of labels, unless
    `names` says which is meant."""
    for file in find_parquet(path)[0][:1]:
        with open_parquet(file) as opened:
            schema = opened.schema_arrow
        try:
            find_columns(schema, file, names)
        except (SourceError, ParameterError):  # of classes
            return bool(mask_columns(schema, names.label))
    return False


def mask_columns(schema: Any, named: str | None = None) -> list[str]:
    """Those of images that are called masks, or as `named`."""
    names = known(schema.names, MASK_NAMES) if named is None else {named} & {*schema.names}
    return [name for name in names if _is_image(schema.types[schema.names.index(name)])]


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
