"""Read regular files alone, write files whole or not at all, name content by its digest, and check
storage addresses."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from pipeline.errors import DataError, DiskError

REFUSALS = {errno.ENOSPC: "make space", errno.EDQUOT: "make space", errno.EROFS: "make it writable"}
SCHEMES = ("file", "s3", "gs")  # of addresses of shared storage
PARTIALS = ".*.partial"  # names of what is being written
LARGEST_FILE = 512 << 20  # bytes of a file that is read whole
BLOCK = 1 << 20


def regular(path: Path) -> Path:
    """`path`, for a library that opens it by itself; raises OSError where it is no regular file, or
    an empty one: another would be waited for, or has no end (/dev/zero, /proc/kmsg)."""
    with open_regular(path) as (_, size):
        if not size:
            raise OSError(errno.ENODATA, "empty", str(path))
    return path


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file, or what a link to one leads to, and its size; never waits. Raises OSError."""
    if "\0" in str(path) or not stat.S_ISREG(path.stat().st_mode):  # opened, a device may act
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        yield file, os.fstat(file.fileno()).st_size


def read_bytes(path: Path) -> bytes:
    """The bytes of a regular file, up to its size; raises OSError, also over LARGEST_FILE."""
    with open_regular(path) as (file, size):
        if size > LARGEST_FILE:
            raise OSError(errno.EFBIG, f"larger than {LARGEST_FILE >> 20} MiB", str(path))
        return file.read(size)


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a regular file, its line ends as they are; raises as read_bytes, ValueError."""
    return read_bytes(path).decode(encoding)


def _partial(path: Path) -> Path:
    """The name beside `path` under which this process writes it."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to `path`, whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in `path`; raises OSError or ValueError."""
    try:
        return json.loads(read_text(path))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def stage_json(path: Path) -> Any:
    """The JSON value that a stage wrote to `path`; raises DataError where that is gone or cut."""
    try:
        return read_json(path)
    except OSError as error:
        reason = str(error.strerror)
    except (ValueError, RecursionError) as error:
        reason = f"not JSON: {error}"
    raise DataError(f"{path}: can't be read ({reason}); run dvc repro to make it again")


def csv_text(value: str) -> str:
    """`value` for a CSV that a spreadsheet opens: what it would take for a formula gets a quote.

    A leading quote gets one too, so that `csv_value` is exact.
    """
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r", "'")) else value


def csv_value(text: str) -> str:
    """The value that `csv_text` wrote."""
    return text.removeprefix("'")


def replace_folder(finished: Path, target: Path) -> None:
    """Put the folder `finished` in the place of `target`, on the same file system."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(target)
    os.replace(finished, target)


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, put in the place of `folder` once the block has ended well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        finished = Path(scratch) / "finished"
        finished.mkdir()
        yield finished
        replace_folder(finished, folder)


def publish_folder(finished: Path, target: Path) -> None:
    """Put a copy of the folder `finished` in the place of `target`, its files linked where that
    is possible: they are only ever replaced, never rewritten.

    What a killed writer left unfinished in it is not copied.
    """
    partial = _partial(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = shutil.ignore_patterns(PARTIALS)
    shutil.copytree(finished, partial, ignore=unfinished, copy_function=_link_or_copy)
    replace_folder(partial, target)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def discard_folder(folder: Path) -> None:
    """Remove a folder such that, half removed, nobody takes it for itself."""
    partial = _partial(folder)
    os.replace(folder, partial)
    shutil.rmtree(partial)


def remove_partials(folder: Path) -> None:
    """Remove what writers of this machine that were killed have left in `folder`, not below it."""
    import psutil  # a served model has none

    for path in folder.glob(PARTIALS):
        writer = path.name.rsplit(".", 2)[-2]
        own = writer == str(os.getpid())  # of an earlier process of this number
        if writer.isdecimal() and (own or not psutil.pid_exists(int(writer))):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open_regular(path) as (file, size):
        while size > 0 and (block := file.read(min(size, BLOCK))):
            digest.update(block)
            size -= len(block)
    return digest.hexdigest()


def value_digest(value: Any) -> str:
    """SHA-256 of a JSON value, in hexadecimal; independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def disk_error(error: BaseException | None) -> DiskError | None:
    """What a user reads where `error`, or what it came from, is a full or read-only disk; or None.

    Libraries that are not written in Python, and Ray, tell the reason in words alone.
    """
    while error is not None:
        text = str(error)
        for number, advice in REFUSALS.items():
            reason = os.strerror(number)
            if getattr(error, "errno", None) == number or reason in text:
                path = getattr(error, "filename", None)
                where = f"{path}: " if path else ""
                return DiskError(f"{where}{reason}; {advice}, and the same command goes on")
        error = getattr(error, "cause", None) or error.__cause__
    return None


def storage_problem(url: str) -> str | None:
    """What is wrong with an address of a folder in storage, None where nothing is."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        return str(error)
    if parts.scheme not in SCHEMES:
        return "must start with " + ", ".join(f"{name}://" for name in SCHEMES)
    if "@" in parts.netloc:
        return "credentials go into the environment, not into the address"
    if parts.fragment or any(character.isspace() for character in url):
        return "must hold no # and no blanks (%23 and %20 stand for them)"
    if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
        return "must be an absolute path, as file:///shared/mine"
    if parts.scheme != "file" and not parts.netloc:
        return f"must name a bucket, as {parts.scheme}://bucket/mine"
    return None


def without_secrets(url: str) -> str:
    """The address with what stands before an @ in it left out."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}…@{rest.rpartition('@')[2]}" if mark and "@" in rest else url
