from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.data.sources import Row, open_source
from pipeline.errors import SourceError
from tests.data.helpers import encoded, noise, photo, run_prepare


def put(root: Path, name: str, data: bytes = b"image") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def rows(root: Path) -> list[Row]:
    return list(open_source("folder", str(root), seed=0).rows())


def test_labels_splits_and_ids_come_from_paths(tmp_path: Path) -> None:
    for name in (
        "labeled/dog/b.JPG",
        "labeled/cat/a.png",
        "labeled/cat/more/c d\n😀.webp",
        "validation/dog/v.tif",
        "test/cat/t.jpeg",
        "unlabeled/x.gif",
        "unlabeled/deep/er/y.bmp",
        "unlabeled/.hidden.png",
        "unlabeled/.folder/z.png",
        "labeled/cat/notes.txt",
        "labeled/.git/a.png",
    ):
        put(tmp_path, name)
    source = open_source("folder", str(tmp_path), seed=0)
    assert source.classes == ["cat", "dog"]
    found = [(row.id, row.label, row.split) for row in source.rows()]
    assert found == [
        ("labeled/cat/a.png", 0, None),
        ("labeled/cat/more/c d\n😀.webp", 0, None),
        ("labeled/dog/b.JPG", 1, None),
        ("validation/dog/v.tif", 1, "validation"),
        ("test/cat/t.jpeg", 0, "test"),
        ("unlabeled/x.gif", None, None),
        ("unlabeled/deep/er/y.bmp", None, None),
    ]
    assert len(source) == len(found)


def test_odd_files_come_with_their_problem(tmp_path: Path) -> None:
    put(tmp_path, "labeled/cat/a.png")
    free = tmp_path / "unlabeled"
    free.mkdir()
    (free / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (free / "circle.png").symlink_to(free / "circle.png")
    (free / "up").symlink_to(tmp_path)
    os.mkfifo(free / "pipe.png")
    problems = {row.id: row.problem for row in rows(tmp_path)}
    assert problems.pop("labeled/cat/a.png") is None
    assert problems.pop("unlabeled/up") == "a link to a folder, not followed"
    assert set(problems) == {f"unlabeled/{name}.png" for name in ("dangling", "circle", "pipe")}
    assert problems["unlabeled/pipe.png"] == "not a regular file"
    assert str(problems["unlabeled/dangling.png"]).startswith("unreadable: ")
    assert str(problems["unlabeled/circle.png"]).startswith("unreadable: ")


def test_a_name_that_is_not_utf8_becomes_text(tmp_path: Path) -> None:
    put(tmp_path, "labeled/cat/a.png")
    try:
        Path(os.fsdecode(bytes(tmp_path) + b"/labeled/cat/\xff.png")).write_bytes(b"image")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert [row.id for row in rows(tmp_path)] == ["labeled/cat/a.png", "labeled/cat/\\xff.png"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "labeled: missing"),
        (["unlabeled/a.png"], "labeled: missing"),
        (["labeled/a.png"], "holds no folders"),
        (["labeled/cat/a.txt"], "no images"),
        (["labeled/cat/a.png", "test/emu/a.png"], "test/emu: no class of that name"),
    ],
)
def test_folders_that_do_not_fit(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        put(tmp_path, name)
    with pytest.raises(SourceError, match=message):
        rows(tmp_path)


def test_no_folder_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        rows(tmp_path / "nowhere")


def test_images_of_every_kind_are_prepared(tmp_path: Path) -> None:
    for n in range(10):
        name = f"labeled/{'cat' if n % 2 else 'dog'}/{n}"
        put(tmp_path, f"{name}.png", encoded(noise(n, 20, 3)))
        put(tmp_path, f"{name}.jpg", encoded(noise(n + 50, 30 + n, 3), "JPEG"))
    put(tmp_path, "unlabeled/grey.png", encoded(photo().convert("L")))
    put(tmp_path, "unlabeled/palette.png", encoded(photo().rotate(90).convert("P")))
    put(tmp_path, "unlabeled/rgba.png", encoded(photo().rotate(180).convert("RGBA")))
    put(tmp_path, "unlabeled/text.jpg", b"no image at all")
    source = open_source("folder", str(tmp_path), seed=0)
    counts = run_prepare(source, tmp_path / "out", image_size=16, channels=3)
    assert counts.labeled + counts.validation + counts.test == 20
    assert (counts.unlabeled, counts.quarantined) == (3, 1)
