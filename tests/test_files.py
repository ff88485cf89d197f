import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.files import (
    discard_folder,
    file_digest,
    machine_error,
    parse_json,
    plain_name,
    publish_folder,
    read_bytes,
    read_json,
    regular,
    remove_partials,
    replace_folder,
    value_digest,
    write_json,
    write_text,
    written_whole,
)
from tests.bad_input.special import special


class BodyError(Exception):
    """Raised in the middle of writing."""


def write_half(path: Path) -> None:
    with written_whole(path) as partial:
        partial.write_bytes(b"half")
        raise BodyError


def test_a_file_appears_whole_and_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.bin"
    with written_whole(path) as partial:
        partial.write_bytes(b"half")
        assert not path.exists()
        assert partial.parent == path.parent
        partial.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    assert [item.name for item in path.parent.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_failing_body_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, before: bytes | None
) -> None:
    path = tmp_path / "file.bin"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(BodyError):
        write_half(path)
    assert [item.name for item in tmp_path.iterdir()] == ([] if before is None else ["file.bin"])
    assert before is None or path.read_bytes() == before


def test_a_body_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), written_whole(tmp_path / "file.bin"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_text_and_json_are_utf_8_sorted_and_end_in_a_newline(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "größer\n")
    assert (tmp_path / "text").read_bytes() == "größer\n".encode()
    write_json(tmp_path / "value.json", {"b": [1, None], "a": "é"})
    text = (tmp_path / "value.json").read_text(encoding="utf-8")
    assert list(json.loads(text)) == ["a", "b"]
    assert text.endswith("}\n")
    assert read_json(tmp_path / "value.json") == {"a": "é", "b": [1, None]}


def test_json_that_others_could_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "value.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"{",
            b"NaN",
            b"[-Infinity]",
            b"1e999",
            b"9" * 5000,
            b"[" * 100_000,
            b"\xff",
            b"{} {}",
        ),
        *(b'{"a": 1, "a": 2}', b'["\\ud800"]', "\ufeff{}".encode()),
    ],
)
def test_what_is_not_plain_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(data)


def test_a_large_json_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "value.json").write_bytes(b" " * 2000 + b"{}")
    assert read_json(tmp_path / "value.json", 2002) == {}
    with pytest.raises(ValueError, match="larger than"):
        read_json(tmp_path / "value.json", 2001)


@pytest.mark.parametrize("name", ["0", "2.1", "my model", "größer", "a..b", "x" * 255])
def test_a_plain_name_is_itself(name: str) -> None:
    assert plain_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", ".hidden", "a/b", "/etc", "a/../../../evil", "a\\b", "a\0", "a\nb"),
        *("\u202eevil", "\ud800", "x" * 256, "é" * 128),
    ],
)
def test_what_is_no_plain_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="plain name"):
        plain_name(name)


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    finished, target = tmp_path / "finished", tmp_path / "deep" / "target"
    for content in ("first", "second"):
        finished.mkdir()
        (finished / content).write_text(content)
        replace_folder(finished, target)
        assert [item.name for item in target.iterdir()] == [content]
        assert not finished.exists()


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_a_files_digest_is_its_sha_256(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    (tmp_path / "file").write_bytes(data)
    assert file_digest(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_a_values_digest_knows_content_and_not_the_order_of_keys() -> None:
    assert value_digest({"a": 1, "b": [1, 2]}) == value_digest({"b": [1, 2], "a": 1})
    values = [{"a": 1}, {"a": "1"}, {"a": 1.5}, {"a": None}, [1, 2], [2, 1], "a"]
    assert len({value_digest(value) for value in values}) == len(values)
    assert len(value_digest({})) == 64


def names_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_published_folder_is_the_finished_one_without_what_is_unfinished(tmp_path: Path) -> None:
    finished, target = tmp_path / "scratch", tmp_path / "outputs" / "1"
    write_text(finished / "inner" / "a.txt", "a")
    (finished / "inner" / ".b.txt.1.partial").touch()
    write_text(target / "old.txt", "old")
    for _ in range(2):  # published again, as after a kill
        publish_folder(finished, target)
        assert names_below(tmp_path / "outputs") == ["1", "1/inner", "1/inner/a.txt"]
    assert names_below(finished) == ["inner", "inner/.b.txt.1.partial", "inner/a.txt"]
    assert (finished / "inner/a.txt").samefile(target / "inner/a.txt")
    write_text(finished / "inner" / "a.txt", "new")
    assert (target / "inner" / "a.txt").read_text() == "a"


def test_a_folder_that_is_discarded_is_gone(tmp_path: Path) -> None:
    write_text(tmp_path / "folder" / "a.txt", "a")
    discard_folder(tmp_path / "folder")
    assert names_below(tmp_path) == []


def test_what_killed_writers_left_is_removed_and_what_is_being_written_stays(
    tmp_path: Path,
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f".a.json.{gone.pid}.partial").touch()
    (tmp_path / f".1.{gone.pid}.partial" / "inner").mkdir(parents=True)
    kept = {f".b.json.{os.getppid()}.partial", "c.partial", ".d.mine.partial", "a.json"}
    for name in kept:
        (tmp_path / name).touch()
    remove_partials(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept
    remove_partials(tmp_path / "nowhere")


def test_a_full_disk_is_told_from_other_errors_however_it_is_wrapped() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a/b.bin")
    wrapped = RuntimeError("a task failed")
    wrapped.__cause__ = full
    for error in (full, wrapped):
        told = str(machine_error(error))
        assert told.startswith("a/b.bin: No space left on device; ")
    foreign = ValueError("I/O error: No space left on device (os error 28)")
    assert str(machine_error(foreign)).startswith("No space left on device; ")
    assert machine_error(ValueError("3")) is None


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOENT, "gone", "a/b"), "a/b: No such file or directory; put it back"),
        (OSError(errno.EMFILE, "many"), "Too many open files; raise ulimit -n, and the same"),
        (OSError(errno.ETIMEDOUT, "late"), "Connection timed out; mend that, and the same"),
        (MemoryError(), "Cannot allocate memory; free memory, or raise ulimit -v"),
        (RuntimeError("can't start new thread"), "Resource temporarily unavailable; raise ulimit"),
        (RuntimeError("File too large (os error 27)"), "File too large; raise ulimit -f"),
    ],
)
def test_what_a_machine_refuses_is_told_with_what_would_do(error: Exception, told: str) -> None:
    assert str(machine_error(error)).startswith(told)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("pipe", "not a regular file"),
        ("socket", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("folder", "not a regular file"),
        ("gone", "No such file"),
        ("circle", "Too many levels"),
    ],
)
@pytest.mark.parametrize("read", [read_bytes, regular, file_digest, read_json])
def test_only_regular_files_are_read(
    tmp_path: Path, kind: str, reason: str, read: Callable[[Path], object]
) -> None:
    special(tmp_path / "target", kind)
    (tmp_path / "link").symlink_to("target")
    for name in ("target", "link"):
        with pytest.raises(OSError, match=reason):
            read(tmp_path / name)


@pytest.mark.parametrize("path", ["/proc/self/pagemap", "/proc/kmsg", "/proc/self/mounts"])
def test_files_without_a_size_are_empty(path: str) -> None:
    try:
        assert read_bytes(Path(path)) == b""
        assert file_digest(Path(path)) == hashlib.sha256().hexdigest()
        with pytest.raises(OSError, match="empty"):
            regular(Path(path))
    except (FileNotFoundError, PermissionError):
        pytest.skip("not on this machine")


def test_a_file_is_read_whole_and_through_links_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"12345678")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "link") == b"12345678"
    assert regular(tmp_path / "link") == tmp_path / "link"
    monkeypatch.setattr("pipeline.files.LARGEST_FILE", 7)
    with pytest.raises(OSError, match="larger than"):
        read_bytes(tmp_path / "file")


def test_json_that_nests_too_deeply_is_a_wrong_value(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(tmp_path / "deep.json")
