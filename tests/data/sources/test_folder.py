from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.data.preparation.inspection import inspect_source
from pipeline.data.sources import Row, open_source
from pipeline.data.sources.layout import part_of
from pipeline.data.trees.tree import SYSTEM
from pipeline.errors import SourceError
from tests.data.helpers import CLASSIFICATION, encoded, noise, photo, run_prepare


def put(root: Path, name: str, data: bytes = b"image") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def taken(root: Path, *names: str) -> dict[str, tuple[str | None, str | None]]:
    """The class and the split of each picture of a folder that holds `names`."""
    for name in names:
        put(root, name)
    source = open_source("folder", str(root), seed=0)
    shown: dict[str, tuple[str | None, str | None]] = {}
    for row in source.rows():
        shown[row.id] = (None if row.label is None else source.classes[row.label], row.split)
    assert sorted([*shown, *(name for name, _ in source.left_out)]) == sorted(names)
    return shown


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
    assert source.left_out == [
        ("labeled/.git/a.png", SYSTEM),
        ("labeled/cat/notes.txt", ".txt file, not an image"),
        ("unlabeled/.folder/z.png", SYSTEM),
        ("unlabeled/.hidden.png", SYSTEM),
    ]
    assert found == [
        ("labeled/cat/a.png", 0, None),
        ("labeled/cat/more/c d\n😀.webp", 0, None),
        ("labeled/dog/b.JPG", 1, None),
        ("test/cat/t.jpeg", 0, "test"),
        ("unlabeled/deep/er/y.bmp", None, None),
        ("unlabeled/x.gif", None, None),
        ("validation/dog/v.tif", 1, "validation"),
    ]
    assert len(source) == len(found)


def test_odd_files_come_with_their_problem(tmp_path: Path) -> None:
    put(tmp_path, "labeled/cat/a.png")
    put(tmp_path, "labeled/dog/a.png")
    free = tmp_path / "unlabeled"
    free.mkdir()
    (free / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (free / "circle.png").symlink_to(free / "circle.png")
    (free / "up").symlink_to(tmp_path)
    os.mkfifo(free / "pipe.png")
    source = open_source("folder", str(tmp_path), seed=0)
    assert source.left_out == [("unlabeled/up", "a link to a folder, not followed")]
    problems = {row.id: row.problem for row in source.rows() if row.label is None}
    assert set(problems) == {f"unlabeled/{name}.png" for name in ("dangling", "circle", "pipe")}
    assert problems["unlabeled/pipe.png"] == "not a regular file"
    assert str(problems["unlabeled/dangling.png"]).startswith("unreadable: ")
    assert str(problems["unlabeled/circle.png"]).startswith("unreadable: ")


def test_a_name_that_is_not_utf8_becomes_text(tmp_path: Path) -> None:
    put(tmp_path, "labeled/cat/a.png")
    put(tmp_path, "labeled/dog/a.png")
    try:
        Path(os.fsdecode(bytes(tmp_path) + b"/labeled/cat/\xff.png")).write_bytes(b"image")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    ids = [row.id for row in rows(tmp_path) if row.label == 0]
    assert ids == ["labeled/cat/a.png", "labeled/cat/\\xff.png"]


def test_words_of_parts_in_names_that_are_alike_elsewhere_make_parts(tmp_path: Path) -> None:
    for name in ("seg_train/seg_train/cat/1.png", "seg_train/seg_train/dog/2.png"):
        put(tmp_path, name)
    for name in ("seg_test/seg_test/cat/3.png", "seg_test/seg_test/dog/4.png", "seg_pred/5.png"):
        put(tmp_path, name)
    source = open_source("folder", str(tmp_path), seed=0)
    assert source.classes == ["cat", "dog"]
    splits = {row.id.rpartition("/")[2]: row.split for row in source.rows()}
    assert splits == {"1.png": "train", "2.png": "train", "3.png": "test", "4.png": "test"}
    assert [name for name, _ in source.left_out] == ["seg_pred/5.png"]


def test_parts_of_a_class_stay_parts_beside_other_folders(tmp_path: Path) -> None:
    for name in ("cat/train/1.png", "cat/test/2.png", "cat/boxes/1.xml", "cat/more/3.png"):
        put(tmp_path, name)
    put(tmp_path, "dog/4.png")
    source = open_source("folder", str(tmp_path), seed=0)
    assert {row.id: row.split for row in source.rows()} == {
        "cat/train/1.png": "train",
        "cat/test/2.png": "test",
        "dog/4.png": None,
    }
    assert {*dict(source.left_out)} == {"cat/boxes/1.xml", "cat/more/3.png"}


def test_folders_that_hold_the_same_folders_are_pointed_out(tmp_path: Path) -> None:
    for outer in ("fold_0", "fold_1"):
        for inner in ("cat", "dog"):
            put(tmp_path, f"{outer}/{inner}/1.png")
    (note,) = open_source("folder", str(tmp_path), seed=0).notes
    assert note.startswith("fold_0/, fold_1/ hold the same folders, cat/, dog/")


def test_a_folder_of_texts_beside_classes_is_none(tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/2.png", "boxes/1.xml", "boxes/more/2.json", "notes/why.TXT"):
        put(tmp_path, name)
    source = open_source("folder", str(tmp_path), seed=0)
    assert source.classes == ["cat", "dog"]
    named = ["boxes/1.xml", "boxes/more/2.json", "notes/why.TXT"]
    assert [name for name, _ in source.left_out] == named
    assert [note.rpartition(":")[0] for note in source.notes] == [
        f"{tmp_path}/boxes",
        f"{tmp_path}/notes",
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no images in it"),
        (["unlabeled/a.png"], "1 image without labels"),
        (["labeled/a.png"], "1 image without labels"),
        (["images/a.png", "images/b.png"], "2 images without labels"),
        (["labeled/cat/a.txt"], "labeled/cat: no labelled images to learn from"),
        (["labeled/cat/a.png", "test/emu/a.png"], "test/emu: no class of that name"),
        (["test/cat/a.png", "test/dog/a.png"], "only folders to test or validate with"),
        (["cat/a.png", "dog/a.heic"], r"dog: no labelled .* 1 HEIC: pip install pillow-heif"),
    ],
)
def test_folders_that_do_not_fit(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        put(tmp_path, name)
    with pytest.raises(SourceError, match=message):
        rows(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["cat/a.png", "unlabeled/a.png"], r"1 class\(es\) \('cat'\)"),
        (["cat/a.png", "Cat/b.png"], "differ only in case"),
        (["caf\u00e9/a.png", "cafe\u0301/b.png"], "differ only in case"),
    ],
)
def test_classes_that_do_not_fit_are_refused_by_init_and_prepare(
    tmp_path: Path, files: list[str], message: str
) -> None:
    for name in files:
        put(tmp_path / "in", name)
    source = open_source("folder", str(tmp_path / "in"), seed=0)
    with pytest.raises(SourceError, match=message):
        inspect_source(source, CLASSIFICATION)
    with pytest.raises(SourceError, match=message):
        run_prepare(source, tmp_path / "out")


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


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("train", "train Training TRAIN train_set training-data Train_Images imgs_train train2017"),
        ("validation", "val Valid validation Validation_Set dev valid_images val2017"),
        ("test", "test Testing TEST test-set test_images images_test test1"),
        ("labeled", "labeled labelled Labeled_Images LABELLED labled"),
        ("unlabeled", "unlabeled unlabelled Un-Labelled unlabled unlabeled_images nolabel"),
        (None, "cat trains bus labrador tester deviation data images attest label unknown"),
    ],
)
def test_parts_are_known_in_any_usual_spelling(kind: str | None, names: str) -> None:
    assert {name: part_of(name) for name in names.split()} == dict.fromkeys(names.split(), kind)


def test_each_folder_is_a_class_and_what_lies_loose_is_unlabelled(tmp_path: Path) -> None:
    names = ("cat/deep/a.png", "dog/b.jpg", "loose.png", "unlabelled/x/u.png")
    assert taken(tmp_path, *names) == {
        "cat/deep/a.png": ("cat", None),
        "dog/b.jpg": ("dog", None),
        "loose.png": (None, None),
        "unlabelled/x/u.png": (None, None),
    }


def test_parts_may_lie_in_parts(tmp_path: Path) -> None:
    names = ("d/Train/Labeled/a/1.png", "d/Train/Labeled/b/1.png", "d/Train/Unlabeled/1.png")
    found = taken(tmp_path, *names, "d/Test/a/1.png")
    assert list(found.values()) == [
        ("a", "test"),
        ("a", "train"),
        ("b", "train"),
        (None, None),
    ]


def test_splits_may_lie_in_labeled_or_in_each_class(tmp_path: Path) -> None:
    names = ("labeled/train/a/1.png", "labeled/train/b/1.png", "labeled/test/a/1.png")
    assert taken(tmp_path / "one", *names)["labeled/test/a/1.png"] == ("a", "test")
    in_classes = ("a/train/1.png", "a/test/1.png", "b/train/1.png", "b/unlabeled/1.png")
    assert taken(tmp_path / "other", *in_classes) == {
        "a/train/1.png": ("a", "train"),
        "a/test/1.png": ("a", "test"),
        "b/train/1.png": ("b", "train"),
        "b/unlabeled/1.png": (None, None),
    }


def test_trains_may_be_a_class(tmp_path: Path) -> None:
    found = taken(tmp_path, "train/1.png", "bus/1.png", "car/1.png")
    assert {label for label, _ in found.values()} == {"train", "bus", "car"}
    source = open_source("folder", str(tmp_path), seed=0)
    assert source.notes == [f"{tmp_path}/train: taken for a class, as the folders beside it"]


def test_a_test_folder_without_classes_is_used_and_said(tmp_path: Path) -> None:
    found = taken(tmp_path, "train/a/1.png", "train/b/1.png", "test/1.png")
    assert found["test/1.png"] == (None, None)
    note = open_source("folder", str(tmp_path), seed=0).notes[0]
    assert "1 image, used as unlabelled: without labels they can't test" in note


def test_what_fits_nowhere_is_named(tmp_path: Path) -> None:
    taken(tmp_path, "labeled/a/1.png", "labeled/b/1.png", "labeled/2.png", "extra/3.png")
    assert open_source("folder", str(tmp_path), seed=0).left_out == [
        ("extra/3.png", "in extra/, which is neither a part nor a class; beside it: labeled/"),
        ("labeled/2.png", "in no class's folder"),
    ]


def test_pictures_are_known_by_content_and_others_by_ending(tmp_path: Path) -> None:
    picture = encoded(noise(1))
    for name in ("a/1.jfif", "a/2.img", "a/3", "b/1.ppm"):
        put(tmp_path, name, picture)
    for name in ("b/x.heic", "b/x.NEF", "b/x.mp4", "b/x", "b/Thumbs.db", "@eaDir/a/1.png"):
        put(tmp_path, name)
    source = open_source("folder", str(tmp_path), seed=0)
    assert len(source) == 4
    assert dict(source.left_out) == {
        "@eaDir/a/1.png": SYSTEM,
        "b/Thumbs.db": SYSTEM,
        "b/x": "a file without ending, not an image",
        "b/x.NEF": "a camera's raw file: export it as JPEG",
        "b/x.heic": "HEIC: pip install pillow-heif, or export as JPEG",
        "b/x.mp4": "a video: export frames as images",
    }
