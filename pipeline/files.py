"""Read regular files alone, write files whole or not at all, name content by its digest."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from pipeline.errors import DataError, MachineError

REFUSALS = {  # what a library that is not written in Python, or Ray, may tell in words alone
    errno.ENOSPC: "make space",
    errno.EDQUOT: "make space",
    errno.EROFS: "make it writable",
    errno.EFBIG: "raise ulimit -f",
    errno.EMFILE: "raise ulimit -n",
    errno.ENOMEM: "free memory, or raise ulimit -v",
    errno.EAGAIN: "raise ulimit -u",
    errno.EIO: "check the disk",
}
REMEDIES = REFUSALS | {
    errno.EACCES: "give access to it",
    errno.EPERM: "give access to it",
    errno.EEXIST: "remove it",
    errno.ENOTDIR: "remove what is in its place",
    errno.EISDIR: "remove it",
    errno.ENOENT: "put it back",
}
PARTIALS = ".*.partial"  # names of what is being written
LARGEST_FILE = 512 << 20  # bytes of a file that is read whole
BLOCK = 1 << 20
MOST_JSON = 8 << 20  # bytes of a JSON file; parsed it can take 130 times as much
LONGEST_NAME = 255  # bytes of a file's name
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
_STARTS, _SIGNS = r"(?:^|(?<=[;\t\r\n]))", f"(?=[{re.escape(''.join(FORMULA))}'])"
_BEFORE_FORMULA, _QUOTE = re.compile(_STARTS + _SIGNS), re.compile(f"{_STARTS}'{_SIGNS}")


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


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """The bytes of a regular file, up to its size; raises OSError, also over `most` of them, or
    LARGEST_FILE."""
    most = LARGEST_FILE if most is None else most
    with open_regular(path) as (file, size):
        if size > most:
            raise OSError(errno.EFBIG, f"larger than {most >> 20} MiB", str(path))
        return file.read(size)


def read_text(path: Path, encoding: str = "utf-8", most: int | None = None) -> str:
    """The text of a regular file, its line ends as they are; raises as read_bytes, ValueError."""
    return read_bytes(path, most).decode(encoding)


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


def read_json(path: Path, most: int = MOST_JSON) -> Any:
    """The JSON value in `path`; raises OSError, or ValueError as parse_json does and for a file of
    more than `most` bytes."""
    with open_regular(path) as (file, size):
        if size > most:
            raise ValueError(f"larger than {most >> 20} MiB")
        return parse_json(file.read(size))


def parse_json(data: bytes) -> Any:
    """The value of JSON in UTF-8; raises ValueError for anything else.

    That is also a key that comes twice, NaN, a number or a nesting too large for Python, and half
    of a surrogate pair.
    """
    try:
        value = json.loads(data.decode(), object_pairs_hook=_each_key_once)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key comes twice")
    return value


def plain_name(name: str) -> str:
    """`name`, which a file says, fit to be that of a file or folder in a folder of ours.

    Raises ValueError for a path, a hidden name, and one that can't be printed.
    """
    fits = name.isprintable() and not set(name) & {"/", "\\"} and not name.startswith(".")
    if not name or not fits or len(name.encode()) > LONGEST_NAME:
        raise ValueError("must be a plain name: no path, not hidden, printable")
    return name


def stage_json(path: Path) -> Any:
    """The JSON value that a stage wrote to `path`; raises DataError where that is gone or cut."""
    try:
        return read_json(path)
    except OSError as error:
        reason = str(error.strerror)
    except ValueError as error:
        reason = f"not JSON: {error}"
    raise DataError(f"{path}: can't be read ({reason}); selftrain run makes it again")


class _LineEnds:
    """Ends rows in a line feed. The writer ends them in both characters: it quotes only those in a
    cell that end its rows."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, row: str) -> int:
        return self.file.write(row.removesuffix("\r\n") + "\n")


def csv_rows(file: TextIO, rows: Iterable[Iterable[object]]) -> None:
    """Write rows of a CSV that a spreadsheet may open: text by `csv_text`, None as nothing."""
    writer = csv.writer(_LineEnds(file), lineterminator="\r\n")
    writer.writerows([csv_text(v) if isinstance(v, str) else v for v in row] for row in rows)


def csv_text(value: str) -> str:
    """`value` for a CSV that a spreadsheet opens: what it would take for a formula gets a quote,
    also behind what it may split cells at: a semicolon, a tab or a line end.

    What begins with such a quote gets one too, so that `csv_value` is exact.
    """
    return _BEFORE_FORMULA.sub("'", value)


def csv_value(text: str) -> str:
    """The value that `csv_text` wrote; a quote that someone wrote before anything else stays."""
    return _QUOTE.sub("", text)


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


def machine_error(error: BaseException | None) -> MachineError | None:
    """What a user reads where `error`, or what it came from, is the machine's doing: a disk, a
    limit, a file that is gone or in the way; None for any other."""
    while error is not None:
        text, number = str(error), getattr(error, "errno", None)
        if isinstance(error, MemoryError):
            number = errno.ENOMEM
        elif text == "can't start new thread":
            number = errno.EAGAIN
        elif not (isinstance(error, OSError) and number):
            number = next((each for each in REFUSALS if os.strerror(each) in text), None)
        if number:
            path = getattr(error, "filename2", None) or getattr(error, "filename", None)
            where, remedy = f"{path}: " if path else "", REMEDIES.get(number, "mend that")
            reason = os.strerror(number)
            return MachineError(f"{where}{reason}; {remedy}, and the same command goes on")
        error = getattr(error, "cause", None) or error.__cause__
    return None
