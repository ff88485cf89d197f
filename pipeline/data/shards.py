"""Folders of Parquet shards: each written whole, then a manifest that names them, last.

A folder without `manifest.json` is unfinished. The same rows give the same bytes. The shards lie
beside their manifest, or in storage under the prefix that it names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ConfigDict, FailFast, Field, TypeAdapter

from pipeline.addresses import storage_problem, without_secrets
from pipeline.data.storage import StoredFolder, missing
from pipeline.errors import DataError
from pipeline.files import file_digest, regular, write_json, written_whole
from pipeline.params.errors import read_typed
from pipeline.progress import progress

MANIFEST = "manifest.json"
IMAGE_SCHEMA = pa.schema([("id", pa.string()), ("image", pa.binary()), ("label", pa.int32())])
ROWS_PER_GROUP = 1024
MOST_ROWS = 1 << 40  # of one shard; more is no count that a writer made
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.parquet")
STRICT = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True)
class ShardEntry:
    """What the manifest says of one shard: its file's name, number of rows and SHA-256.

    prefix: the address of the folder in storage that holds it; None: it lies by its manifest.
    """

    file: str
    rows: Annotated[int, Field(ge=0, lt=MOST_ROWS)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    prefix: str | None = None
    __pydantic_config__: ClassVar = STRICT

    @property
    def stored_name(self) -> str:
        """The object's name in storage; other bytes have another, so none is ever overwritten."""
        return f"{self.file.removesuffix('.parquet')}-{self.sha256[:16]}.parquet"


@dataclass(frozen=True)
class StoredShard:
    """A shard fetched from storage: its address, its file's name and its bytes."""

    uri: str
    name: str
    data: Any = field(repr=False)

    def __str__(self) -> str:
        return self.uri


Shard = Path | StoredShard


@dataclass(frozen=True)
class Manifest:
    """A finished folder: its rows, its shards in order, and what the writer noted about them.

    prefix: that of all its shards.
    """

    rows: int
    shards: Annotated[tuple[ShardEntry, ...], FailFast()]
    metadata: dict[str, Any] = field(default_factory=dict)
    prefix: str | None = None
    __pydantic_config__: ClassVar = STRICT

    def is_of(self, images: Manifest) -> bool:
        """Whether each shard has as many rows as that of these images."""
        return [each.rows for each in self.shards] == [each.rows for each in images.shards]


_FROM_JSON = TypeAdapter(Manifest)


def shard_name(number: int) -> str:
    """The file name of a shard: `shard_00042.parquet`."""
    return f"shard_{number:05d}.parquet"


def write_shard(path: Path, table: Any) -> ShardEntry:
    """Write one `pyarrow.Table` to `path`, whole or not at all, and say what a manifest needs."""
    with written_whole(path) as partial, parquet_writer(partial, table.schema) as writer:
        writer.write_table(table, row_group_size=ROWS_PER_GROUP)
    return ShardEntry(path.name, table.num_rows, file_digest(path))


def write_manifest(
    folder: Path, entries: Iterable[ShardEntry], metadata: Mapping[str, Any] | None = None
) -> Manifest:
    """Name the finished shards of `folder` in its `manifest.json`."""
    shards = tuple(entries)
    prefix = shards[0].prefix if shards else None
    rows = sum(entry.rows for entry in shards)
    manifest = Manifest(rows, shards, dict(metadata or {}), prefix)
    value = asdict(manifest)
    for item in value["shards"]:
        del item["prefix"]
    if prefix is None:
        del value["prefix"]
    write_json(folder / MANIFEST, value)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of `folder`.

    Raises DataError where it is missing or malformed, or names a file outside the folder.
    """
    path = folder / MANIFEST
    try:
        manifest = read_typed(path, _FROM_JSON)
    except FileNotFoundError:
        raise DataError(
            f"{path}: missing, so {folder} is unfinished; run its stage again"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't be read ({error}); run its stage again") from None
    prefix, shards = manifest.prefix, manifest.shards
    if prefix is not None and storage_problem(prefix) is not None:
        raise DataError(
            f"{path}: prefix = {without_secrets(prefix)!r} is not an address in storage"
        )
    for entry in shards:
        if not SAFE_NAME.fullmatch(entry.file):
            raise DataError(f"{path}: {entry.file!r} is not the name of a shard in its folder")
    if len({entry.file for entry in shards}) != len(shards):
        raise DataError(f"{path}: names a shard twice; run its stage again")
    if manifest.rows != sum(entry.rows for entry in shards):
        raise DataError(f"{path}: rows = {manifest.rows} is not the sum over its shards")
    return replace(manifest, shards=tuple(replace(entry, prefix=prefix) for entry in shards))


def manifest_digest(folder: Path) -> str:
    """SHA-256 of the manifest, and so of everything that it names."""
    read_manifest(folder)
    return file_digest(folder / MANIFEST)


def check_shard(folder: Path, entry: ShardEntry) -> Shard:
    """A shard whose bytes are those of the manifest: its path, or fetched; or DataError."""
    if entry.prefix is not None:
        return _fetched(folder, entry, StoredFolder(entry.prefix))
    path = folder / entry.file
    try:
        digest = file_digest(path)
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}); run its stage again") from None
    if digest != entry.sha256:
        raise DataError(
            f"{path}: not the bytes that {MANIFEST} names; remove it, and its damaged copy in "
            ".dvc/cache where a rerun brings that back, and run its stage again"
        )
    return path


def _fetched(folder: Path, entry: ShardEntry, stored: StoredFolder) -> StoredShard:
    uri, manifest = stored.object_uri(entry.stored_name), folder / MANIFEST
    try:
        data = stored.read(entry.stored_name)
    except FileNotFoundError:
        raise missing(uri, manifest) from None
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise DataError(
            f"{uri}: not the bytes that {manifest} names; remove it, and run its stage again: "
            "selftrain run -- --force --single-item STAGE"
        )
    return StoredShard(uri, entry.file, data)


def read_shard(shard: Shard, columns: list[str] | None = None, optional: Sequence[str] = ()) -> Any:
    """The rows of one shard as a `pyarrow.Table`, or DataError; of `optional` columns those there.

    columns: those that must be there; None for all.
    """
    try:
        source = regular(shard) if isinstance(shard, Path) else pa.BufferReader(shard.data)
        with pq.ParquetFile(source, pre_buffer=False) as file:  # half the time of few columns
            if columns is not None:
                there = file.schema_arrow.names
                columns = [*columns, *(name for name in optional if name in there)]
            table = file.read(columns, use_threads=False)
        if columns is not None:
            table = table.select(columns)
        table.validate(full=True)  # text that is not UTF-8, offsets out of range
    except (OSError, ValueError, MemoryError, KeyError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{shard}: not a readable shard ({reason})") from None
    return table


def iter_shards(
    folder: Path, columns: list[str] | None = None, optional: Sequence[str] = ()
) -> Iterator[Any]:
    """Yield every shard of `folder` as a `pyarrow.Table`, in order, its SHA-256 checked."""
    for entry in read_manifest(folder).shards:
        yield read_entry(folder, entry, columns, optional)


def shown_shards(folder: Path, columns: list[str], title: str) -> Iterator[Any]:
    """The same, with a progress of the images gone through."""
    with progress(title, read_manifest(folder).rows) as advance:
        for table in iter_shards(folder, columns):
            yield table
            advance(table.num_rows)


def read_entry(
    folder: Path,
    entry: ShardEntry,
    columns: list[str] | None = None,
    optional: Sequence[str] = (),
) -> Any:
    """The shard that `entry` of the manifest of `folder` names, its SHA-256 and rows checked."""
    table = read_shard(check_shard(folder, entry), columns, optional)
    if table.num_rows != entry.rows:
        raise DataError(
            f"{folder / entry.file}: {table.num_rows} rows, {MANIFEST} says {entry.rows}"
        )
    return table


class TargetColumn(Protocol):
    """The column of prepared shards that holds what images show; see pipeline.tasks.task."""

    target: Any

    def load(self, column: Any, side: int) -> NDArray[Any]:
        """(N, …) of a column; side: of the images."""


class LabelColumn:
    """Class numbers, -1 where null."""

    target = IMAGE_SCHEMA.field("label")

    def load(self, column: Any, side: int) -> NDArray[Any]:
        """(N,) int64."""
        return np.asarray(column.fill_null(-1).to_numpy(), np.int64)


def column_labels(table: Any) -> NDArray[np.int64]:
    """The column `label` of a table: (N,) int64, -1 where null."""
    return LabelColumn().load(table.column("label"), 0)


def read_labels(folder: Path) -> NDArray[np.int64]:
    """The labels (N,) of a folder of images, -1 where there is none."""
    parts = [column_labels(table) for table in iter_shards(folder, ["label"])]
    return np.concatenate([np.empty(0, np.int64), *parts])


def check_schema(table: Any, schema: Any, shard: Shard) -> Any:
    """`table` itself; DataError where a column of `schema` is missing, of another type or null."""
    for item in schema:
        if table.schema.names.count(item.name) != 1:
            raise DataError(f"{shard}: no column {item.name!r}, or two; run its stage again")
        column = table.column(item.name)
        if column.type != item.type:
            raise DataError(f"{shard}: column {item.name!r} is {column.type}, not {item.type}")
        if not item.nullable and column.null_count:
            raise DataError(f"{shard}: column {item.name!r} has nulls; run its stage again")
    return table


def parquet_writer(path: Any, schema: Any) -> Any:
    """A Parquet writer, to a path or stream: binary columns (images) as they are, others packed."""
    binary = {item.name for item in schema if pa.types.is_binary(item.type)}
    return pq.ParquetWriter(
        path,
        schema,
        compression={item.name: "NONE" if item.name in binary else "ZSTD" for item in schema}
        if all(not pa.types.is_nested(item.type) for item in schema)
        else "ZSTD",
        use_dictionary=False,
        write_statistics=[item.name for item in schema if item.name not in binary],
    )
