"""Shards in storage: how a finished folder gets there, and how workers write there one by one.

Under storage.url lies `shards/<kind>-<key>/`, the key a digest of what determines the content:
of the shards themselves where they are made in one place, of a stage's code, inputs and
parameters where workers write them. A shard's object is named by its number and SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter

from pipeline.data.shards import (
    MANIFEST,
    ROWS_PER_GROUP,
    Manifest,
    ShardEntry,
    parquet_writer,
    read_manifest,
    read_shard,
    write_manifest,
    write_shard,
)
from pipeline.data.storage import StoredFolder, written_in
from pipeline.errors import DataError, SelftrainError
from pipeline.files import file_digest, parse_json, value_digest, written_whole
from pipeline.progress import progress

ROOT = "shards"
KINDS = (
    *("labeled", "unlabeled", "validation", "test"),
    *("features", "predictions", "pseudo_labels", "slices"),
)
FOLDERS = ("prepared", "features", "predictions", "pseudo_labels")  # of a repository
IN_USE = "in_use"
MARK_LASTS = timedelta(minutes=60)
KEY_LENGTH = 32
_ENTRY = TypeAdapter(ShardEntry)
THREADS = 8
PREFIX_NAME = re.compile(rf"({'|'.join(KINDS)})-[0-9a-f]{{{KEY_LENGTH}}}")
OBJECT_NAME = re.compile(rf"shard_\d+(-[0-9a-f]{{16}}\.parquet|\.json)|slice_\d+\.parquet|{IN_USE}")


def stored_prefix(storage: StoredFolder, kind: str, digest: str) -> StoredFolder:
    """The folder of the shards of this kind whose content `digest` determines."""
    return storage / ROOT / f"{kind}-{digest[:KEY_LENGTH]}"


def mark_in_use(prefix: StoredFolder) -> None:
    """Renew the time of a prefix that is about to be used, for `selftrain gc` to leave it."""
    with suppress(FileNotFoundError):  # a process of this number elsewhere renews it just now
        prefix.write(IN_USE, b"selftrain\n")


def manifests_in(root: Path) -> list[Path]:
    """The folders of shards of the repository at `root` that are finished, by name."""
    return sorted(path.parent for name in FOLDERS for path in root.glob(f"{name}/*/{MANIFEST}"))


def upload_shards(folder: Path, storage: StoredFolder | None, kind: str) -> Manifest:
    """Move the shards of a finished local folder to storage; only its manifest stays.

    What is there already is not sent again. Without storage, or shards, the folder stays as it
    is. Raises StorageError.
    """
    manifest = read_manifest(folder)
    if storage is None or not manifest.shards:
        return manifest
    content = [[entry.file, entry.rows, entry.sha256] for entry in manifest.shards]
    prefix = stored_prefix(storage, kind, value_digest(content))
    mark_in_use(prefix)
    sizes = prefix.sizes()

    def upload(entry: ShardEntry) -> int:
        path = folder / entry.file
        if sizes.get(entry.stored_name) != path.stat().st_size:
            with pa.memory_map(str(path)) as file:
                prefix.write(entry.stored_name, file.read_buffer())
        return entry.rows

    with (
        progress(f"{kind}: to storage", manifest.rows) as advance,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        for rows in pool.map(upload, manifest.shards):
            advance(rows)
    entries = [replace(entry, prefix=prefix.uri) for entry in manifest.shards]
    stored = write_manifest(folder, entries, manifest.metadata)
    for entry in manifest.shards:
        (folder / entry.file).unlink()
    return stored


def write_derived(out: Path | StoredFolder, name: str, table: Any) -> ShardEntry:
    """Write one `pyarrow.Table` as the shard `name` of a local or stored folder.

    In storage a note beside it says that it is whole.
    """
    if isinstance(out, Path):
        return write_shard(out / name, table)
    sink = pa.BufferOutputStream()
    with parquet_writer(sink, table.schema) as writer:
        writer.write_table(table, row_group_size=ROWS_PER_GROUP)
    data = sink.getvalue()
    entry = ShardEntry(name, table.num_rows, hashlib.sha256(data).hexdigest(), out.uri)
    out.write(entry.stored_name, data)
    note = {"rows": entry.rows, "sha256": entry.sha256, "bytes": data.size}
    out.write(_note_name(name), json.dumps(note, sort_keys=True).encode())
    return entry


def write_noted(
    place: Path | StoredFolder,
    notes: Path | StoredFolder,
    name: str,
    write: Callable[[Path], tuple[int, dict[str, Any]]],
) -> ShardEntry:
    """Write the shard `name` of a local or stored folder by a path, and then its note.

    write: writes the shard, and returns its rows and what else the note says; notes: the folder of
    the notes, `place` itself where that is stored.
    """
    with ExitStack() as stack:
        if isinstance(place, Path):
            path = stack.enter_context(written_whole(place / name))
        else:
            path = Path(stack.enter_context(TemporaryDirectory(prefix="selftrain-"))) / name
        rows, note = write(path)
        uri = None if isinstance(place, Path) else place.uri
        entry = ShardEntry(name, rows, file_digest(path), uri)
        note |= {"rows": rows, "sha256": entry.sha256, "bytes": path.stat().st_size}
        if not isinstance(place, Path):
            place.write_file(entry.stored_name, path)
    with written_in(notes, _note_name(name)) as path:
        path.write_text(json.dumps(note, sort_keys=True), encoding="utf-8")
    return entry


def noted_shard(
    place: Path | StoredFolder, notes: Path | StoredFolder, name: str
) -> tuple[ShardEntry, dict[str, Any]] | None:
    """The entry and the note of a shard of `write_noted`, None where it is not there whole."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        if isinstance(notes, Path):
            note = parse_json((notes / _note_name(name)).read_bytes())
        else:
            note = parse_json(notes.read(_note_name(name)).to_pybytes())
        entry = _noted_entry(name, note)
        if isinstance(place, Path):
            size: int | None = (place / name).stat().st_size
        else:
            entry = replace(entry, prefix=place.uri)
            size = place.size(entry.stored_name)
        if size == note["bytes"]:
            return entry, note
    return None


def missing_shards(folder: Path, out: Path | StoredFolder) -> list[int]:
    """The numbers of the shards of `folder` that `out` does not hold whole."""
    shards = read_manifest(folder).shards
    entries = derived_entries(out, [entry.file for entry in shards])
    pairs = enumerate(zip(shards, entries, strict=True))
    return [
        number
        for number, (entry, derived) in pairs
        if derived is None or derived.rows != entry.rows
    ]


def finish_derived(
    folder: Path,
    out: Path | StoredFolder,
    metadata: Mapping[str, Any],
    *,
    manifest_in: Path | None = None,
) -> Manifest:
    """Write the manifest of the shards in `out`; raises DataError where one is missing.

    manifest_in: the local folder for it, `out` itself if that is local.
    """
    if missing := missing_shards(folder, out):
        raise DataError(f"{out}: shards {missing[:5]} are missing; run the stage again")
    target = manifest_in or out
    assert isinstance(target, Path)
    entries = derived_entries(out, [entry.file for entry in read_manifest(folder).shards])
    return write_manifest(target, [entry for entry in entries if entry], metadata)


def derived_entries(out: Path | StoredFolder, names: Sequence[str]) -> list[ShardEntry | None]:
    """The entry of each shard in a local or stored folder, None where it is not there whole."""
    if isinstance(out, Path):
        return [_local_entry(out / name) for name in names]
    sizes = out.sizes()
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda name: _stored_entry(out, name, sizes), names))


def _local_entry(path: Path) -> ShardEntry | None:
    try:
        table = read_shard(path, ["id"])
    except SelftrainError:
        return None
    return ShardEntry(path.name, table.num_rows, file_digest(path))


def _stored_entry(folder: StoredFolder, name: str, sizes: dict[str, int]) -> ShardEntry | None:
    if _note_name(name) not in sizes:
        return None
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        note = parse_json(folder.read(_note_name(name)).to_pybytes())
        entry = replace(_noted_entry(name, note), prefix=folder.uri)
        if sizes.get(entry.stored_name) == note["bytes"]:
            return entry
    return None


def _noted_entry(name: str, note: Any) -> ShardEntry:
    said = {"file": name, "rows": note["rows"], "sha256": note["sha256"]}
    return _ENTRY.validate_json(json.dumps(said))


def _note_name(name: str) -> str:
    return name.removesuffix(".parquet") + ".json"


def read_derived(derived: Path, folder: Path) -> Manifest:
    """The manifest of `derived`, which has a row for each of `folder` or none at all; raises
    DataError where the latter has others by now."""
    manifest = read_manifest(derived)
    if manifest.rows and not manifest.is_of(read_manifest(folder)):
        raise DataError(f"{derived}: of other images than {folder} has now; selftrain run")
    return manifest
