"""Folders as people have them, each of a kind that once went wrong: init and prepare agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.preparation.advise import accounted, advise
from pipeline.data.preparation.inspection import inspect_source
from pipeline.data.preparation.listing import warn_of_git
from pipeline.data.preparation.prepare import PrepareCounts
from pipeline.data.sources import open_source
from pipeline.data.sources.recognise import recognise
from tests.data.helpers import CLASSIFICATION, encoded, noise, run_prepare
from tests.data.sources.test_folder import put


def tree(root: Path, folders: dict[str, int], ending: str = "png") -> None:
    """So many different pictures in each folder."""
    for place, (folder, count) in enumerate(folders.items()):
        for number in range(count):
            put(root / folder, f"{number}.{ending}", encoded(noise(100 * place + number, 16)))


def prepared(root: Path, out: Path) -> PrepareCounts:
    """What becomes of a folder that init accepts; raises what either of them says."""
    source = open_source(recognise(str(root)), str(root), seed=0)
    inspect_source(source, CLASSIFICATION)
    return run_prepare(source, out)


@pytest.mark.parametrize(
    ("folders", "labeled", "unlabeled", "test"),
    [
        ({"Training/a": 8, "Training/b": 8, "Testing/a": 4, "Testing/b": 4}, 16, 0, 8),
        ({"cat": 8, "dog": 8, "unlabelled": 8}, 12, 8, 4),
        ({"train/cat": 8, "train/dog": 8, "test": 8}, 12, 8, 4),
        ({"labeled/cat": 8, "labeled/dog": 8, "dev/cat": 4, "dev/dog": 4, ".": 8}, 20, 8, 4),
        ({"data/cat": 8, "data/dog": 8}, 12, 0, 4),
        ({"train": 8, "bus": 8, "car": 8}, 18, 0, 6),
        ({"images/cat": 8, "images/dog": 8, "Unlabeled": 8}, 12, 8, 4),
        ({"train/labeled/cat": 8, "train/labeled/dog": 8, "train/unlabeled": 8}, 12, 8, 4),
    ],
)
def test_layouts_are_used_for_what_they_are(
    folders: dict[str, int], labeled: int, unlabeled: int, test: int, tmp_path: Path
) -> None:
    tree(tmp_path / "in", folders)
    counts = prepared(tmp_path / "in", tmp_path / "out")
    assert (counts.labeled + counts.validation, counts.unlabeled) == (labeled, unlabeled)
    assert (counts.test, counts.quarantined) == (test, 0)


def test_every_file_is_counted_in_one_line(tmp_path: Path) -> None:
    tree(tmp_path, {"cat": 4, "dog": 4}, "jfif")
    for number in range(3):
        put(tmp_path, f"unlabeled/IMG_{number}.HEIC", b"\0\0\0\x18ftypheic")
    put(tmp_path, "__MACOSX/cat/._1.png")
    source = open_source("folder", str(tmp_path), seed=0)
    assert accounted(source) == (
        "12 files or rows seen: 8 used, 4 left out (3 HEIC: pip install pillow-heif, or export as "
        "JPEG (e.g. 'unlabeled/IMG_0.HEIC'); 1 a hidden or a system's file (e.g. "
        "'__MACOSX/cat/._1.png'))"
    )
    counts = run_prepare(source, tmp_path / "out")
    assert counts.labeled + counts.validation + counts.test == 8
    assert str(counts).startswith("12 files or rows seen: 8 used (")
    assert "), 4 left out (" in str(counts)


def test_scans_of_twelve_bits_are_found(tmp_path: Path) -> None:
    for number in range(8):
        scan = np.random.default_rng(number).integers(0, 4096, (16, 16)).astype(np.uint16)
        put(tmp_path, f"{'ab'[number % 2]}/{number}.png", encoded(Image.fromarray(scan)))
    found = inspect_source(open_source("folder", str(tmp_path), seed=0), CLASSIFICATION)
    settings = advise(found, "folder", str(tmp_path), gpu=False, task=CLASSIFICATION).settings
    assert next(entry.value for entry in settings if entry.key == "data.bits") == 12


def test_images_that_git_would_take_are_said(tmp_path: Path) -> None:
    import subprocess

    tree(tmp_path, {"my images/cat": 1})
    images = tmp_path / "my images"
    assert warn_of_git(images, tmp_path) == []
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    assert "'/my images/'" in warn_of_git(images, tmp_path)[0]
    (tmp_path / ".gitignore").write_text("/my images/\n")
    assert warn_of_git(images, tmp_path) == []
    assert warn_of_git(tmp_path.parent / "elsewhere", tmp_path) == []
