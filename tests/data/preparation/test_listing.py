from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.data.preparation.listing import Listing, list_source
from pipeline.errors import SourceError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for name in ("cat/0.png", "cat/1.png", "dog/0.png", "notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def listed(path: Path | str) -> Listing:
    """What is listed with what was remembered beside the folder, from another project."""
    folder = Path(path).parent
    return list_source(str(path), folder / "memory.parquet", project=Path.cwd())


def test_a_file_is_read_once(images: Path) -> None:
    first, again = listed(images), listed(images)
    assert (first.files, first.read, again.read) == (4, 4, 0)
    assert first.bytes == sum(
        len(name) for name in ("cat/0.png", "cat/1.png", "dog/0.png", "notes.txt")
    )
    assert first.digest == again.digest


def add(folder: Path) -> None:
    (folder / "dog" / "1.png").write_text("another")


def remove(folder: Path) -> None:
    (folder / "cat" / "1.png").unlink()


def rename(folder: Path) -> None:
    (folder / "cat" / "1.png").rename(folder / "cat" / "2.png")


def swap_classes(folder: Path) -> None:
    (folder / "cat" / "1.png").rename(folder / "dog" / "1.png")


def rewrite(folder: Path) -> None:
    (folder / "cat" / "1.png").write_text("cat/9.png")  # as long as before


def unreadable(folder: Path) -> None:
    (folder / "cat" / "2.png").symlink_to("nowhere")


@pytest.mark.parametrize("change", [add, remove, rename, swap_classes, rewrite, unreadable])
def test_every_change_is_seen(images: Path, change: object) -> None:
    assert callable(change)
    before = listed(images)
    change(images)
    assert listed(images).digest != before.digest


def test_what_is_no_change_of_the_images_is_none(images: Path, tmp_path: Path) -> None:
    before = listed(images)
    os.utime(images / "cat" / "0.png", (1, 1))
    (images / ".DS_Store").write_text("hidden")
    (images / "Thumbs.db").write_text("a system's")
    (images / ".thumbnails").mkdir()
    (images / ".thumbnails" / "0.png").write_text("hidden")
    (images / "empty").mkdir()
    after = listed(images)
    assert (after.read, after.digest) == (1, before.digest)
    moved = tmp_path / "elsewhere" / "other"
    moved.parent.mkdir()
    images.rename(moved)
    assert listed(moved).digest == before.digest


def test_links_are_followed_and_a_circle_ends(images: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "0.png").write_text("far")
    (images / "emu").symlink_to(linked)
    (linked / "back").symlink_to(images)
    before = listed(images)
    assert before.files == 5
    (linked / "1.png").write_text("farther")
    assert listed(images).digest != before.digest


@pytest.mark.timeout(30)
def test_a_pipe_is_no_file_to_wait_for(images: Path) -> None:
    before = listed(images)
    os.mkfifo(images / "cat" / "pipe.png")
    assert listed(images).digest != before.digest


def test_a_table_stands_for_its_folder_and_a_glob_for_what_it_names(images: Path) -> None:
    (images / "labels.csv").write_text("path,label\n")
    assert listed(images / "labels.csv").files == 5
    (images / "memory.parquet").unlink()
    (images.parent / "a.parquet").write_text("a")
    (images.parent / "b.parquet").write_text("b")
    assert listed(images.parent / "a.parquet").files == 1
    assert listed(images.parent / "[ab].parquet").files == 2


def test_what_was_remembered_may_be_lost_or_broken(images: Path) -> None:
    before = listed(images)
    memory = images.parent / "memory.parquet"
    for text in ("", "no table"):
        memory.write_text(text)
        assert listed(images) == before
    memory.unlink()
    assert listed(images) == before


@pytest.mark.parametrize("name", ["gone", "gone/*.parquet", "empty"])
def test_nothing_there_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"data\.path = .*: no such file or folder, or nothing"):
        listed(tmp_path / name)


def test_a_folder_that_holds_the_project_is_refused(images: Path) -> None:
    with pytest.raises(SourceError, match="holds this project's own folder"):
        list_source(str(images), images / "memory.parquet", project=images / "dog")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_access_that_is_given_is_seen(images: Path) -> None:
    (images / "dog" / "1.png").chmod(0)
    before = listed(images)
    (images / "dog" / "1.png").chmod(0o644)
    assert listed(images).digest != before.digest


def test_a_change_of_the_same_size_and_time_is_seen(images: Path) -> None:
    path = next(images.rglob("*.png"))
    os.utime(path, (4e9, 4e9))  # later than any clock here says
    before, status = listed(images), path.stat()
    path.write_bytes(bytes(reversed(path.read_bytes())))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert listed(images).digest != before.digest


def test_a_parquet_file_below_brackets_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "[2020] set" / "a.parquet"
    path.parent.mkdir()
    path.write_bytes(b"x")
    assert listed(path).files == 1
