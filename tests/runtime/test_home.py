"""What the actor on the driver's node reads and writes, and who sees the driver's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.files import file_digest
from pipeline.runtime.home import Home, Relay


def test_a_listing_names_what_is_needed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("dataset.json", "labeled/a.parquet", "labeled/b/c.parquet", "truth.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    relay = Relay()
    listed = relay.listing(str(tmp_path), ["labeled", "dataset.json", "validation"])
    assert [name for name, _ in listed] == [
        "dataset.json",
        "labeled/a.parquet",
        "labeled/b/c.parquet",
    ]
    assert all(digest == file_digest(tmp_path / name) for name, digest in listed)
    assert len(relay.listing(str(tmp_path), ["."])) == 4
    (only,) = relay.listing(str(tmp_path / "dataset.json"), ["."])
    assert only == [".", file_digest(tmp_path / "dataset.json")]


def test_a_changed_file_has_another_digest(tmp_path: Path) -> None:
    relay = Relay()
    relay.write(str(tmp_path / "a"), b"one")
    before = relay.listing(str(tmp_path), ["."])
    relay.write(str(tmp_path / "a"), b"three")
    assert relay.listing(str(tmp_path), ["."]) != before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_files_are_read_written_and_appended_to(tmp_path: Path) -> None:
    relay, path = Relay(), tmp_path / "folder" / "file"
    assert relay.read(str(path)) is None
    relay.write(str(path), b"one\n")
    relay.append(str(path), "two\n")
    assert relay.read(str(path)) == b"one\ntwo\n"


@pytest.mark.parametrize(
    ("held", "sees"), [("right", True), ("wrong", False), (None, False), ("é", False)]
)
def test_who_reads_the_token_sees_the_files(tmp_path: Path, held: str | None, sees: bool) -> None:
    if held is not None:
        (tmp_path / ".seen").write_text(held, encoding="utf-8")
    assert Home(tmp_path / ".seen", "right", relay=object()).here is sees


def test_on_one_machine_every_process_sees_the_files(tmp_path: Path) -> None:
    home = Home()
    assert home.here
    assert home.folder(tmp_path) == tmp_path
