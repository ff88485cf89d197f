"""Which masks are of which images, by usual and by doubtful names, and by tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.sources.recognise import recognise
from pipeline.errors import SourceError
from tests.data.sources.test_masks import found, image, mask, opened


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images/{}.png", "masks/{}.ome.png"),
        ("images/{}.png", "masks/{}_manual1.png"),
        ("images/{}.png", "masks/mask_{}.png"),
        ("images/image_{}.png", "labels/label_{}.png"),
        ("Images/a{}.png", "Masks/A{}.PNG"),
        ("images_tr/{}.png", "labels_tr/{}.png"),
        ("photos/{}.png", "photos_mask/{}.png"),
        ("train/images/{}.png", "masks/{}.png"),
        ("{}.png", "mask_{}.png"),
    ],
)
def test_usual_spellings_pair(tmp_path: Path, images: str, masks: str) -> None:
    for number in range(3):
        image(tmp_path / images.format(number), number)
        mask(tmp_path / masks.format(number))
    assert recognise(str(tmp_path)) == "masks"
    source = opened(tmp_path)
    assert [row.label is not None for row in source.rows()] == [True] * 3
    assert source.left_out == []


@pytest.mark.parametrize("jpegs", [1, 3])
def test_a_mask_as_jpeg_is_listed(tmp_path: Path, jpegs: int) -> None:
    for number in range(3):
        image(tmp_path / f"images/{number}.png", number)
        mask(tmp_path / f"masks/{number}.{'jpg' if number < jpegs else 'png'}")
    assert recognise(str(tmp_path)) == "masks"
    if jpegs == 3:
        with pytest.raises(SourceError, match=r"masks: masks have no value .*; 3 masks .*: a JPEG"):
            opened(tmp_path)
    else:
        assert [row.label is not None for row in opened(tmp_path).rows()] == [True] * 3


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images/{}.png", "masks/x{}.png"),
        ("train/images/{}.png", "masks/x{}.png"),
        ("images_tr/{}.png", "labels_tr/x{}.png"),
        ("images/{}.png", "images/masks/x{}.png"),
    ],
)
def test_masks_of_no_images_are_no_class(tmp_path: Path, images: str, masks: str) -> None:
    for number in range(3):
        image(tmp_path / images.format(number), number)
        mask(tmp_path / masks.format(number))
    first = (masks.format(0), images.format(0))
    with pytest.raises(
        SourceError,
        match=f"0 of 3 masks fit .*; '{first[0]}': a mask of no image, or .*; '{first[1]}': "
        "an image of no mask; put masks in masks/",
    ):
        recognise(str(tmp_path))


def test_a_mask_is_of_one_image(tmp_path: Path) -> None:
    for name in ("a.png", "a_l.png", "b.png", "b.jpg", "C.png", "c.png", "d.png"):
        image(tmp_path / "images" / name)
    for name in ("a_l.png", "b.png", "C.png", "d.png"):
        mask(tmp_path / "masks" / name)
    source = opened(tmp_path)
    masked = [row.id for row in source.rows() if row.label is not None]
    assert masked == ["images/C.png", "images/a_l.png", "images/d.png"]
    reason = "fits two images, 'images/b.jpg' and 'images/b.png'; rename it for one"
    assert source.left_out == [("masks/b.png", reason)]


@pytest.mark.parametrize("there", [0, 1])
def test_missing_masks_of_a_table_are_listed(tmp_path: Path, there: int) -> None:
    lines = ["image,mask"]
    for number in range(4):
        image(tmp_path / f"images/{number}.png", number)
        mask(tmp_path / f"masks/{number}.png")
        lines.append(f"images/{number}.png,masks/{'' if number < there else 'x'}{number}.png")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    assert recognise(str(tmp_path)) == "masks"
    if not there:
        with pytest.raises(SourceError, match=r"'mask' leads to no masks \(e\.g\. 'masks/x0\.png'"):
            opened(tmp_path)
    else:
        problems = [row.problem for row in opened(tmp_path).rows()]
        assert problems == [None, *["mask: unreadable: No such file or directory"] * 3]


def test_missing_images_of_a_table_are_listed(tmp_path: Path) -> None:
    lines = ["image,mask"]
    for number in range(4):
        image(tmp_path / f"images/{number}.png", number)
        mask(tmp_path / f"masks/{number}.png")
        lines.append(f"images/{'x' if number else ''}{number}.png,masks/{number}.png")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    problems = [row.problem for row in opened(tmp_path).rows()]
    assert problems == [None, *["unreadable: No such file or directory"] * 3, *[None] * 3]


def test_tables_of_splits_that_name_masks_are_one(tmp_path: Path) -> None:
    for number, part in enumerate(("test", "train", "val")):
        image(tmp_path / f"images/{number}.png", number)
        mask(tmp_path / f"other/m{number}.png")
        row = f"image,mask\nimages/{number}.png,other/m{number}.png\n"
        (tmp_path / f"{part}.csv").write_text(row)
    source = opened(tmp_path)
    splits = [(row.label is not None, row.split) for row in source.rows()]
    assert splits == [(True, "test"), (True, "train"), (True, "validation")]
    (tmp_path / "val.csv").write_text("image,mask\nimages/1.png,other/m1.png\n")
    with pytest.raises(SourceError, match=r"val\.csv: row 2: .* is in row 2 of train\.csv too"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name\nsky\ntree\n", "'name': a header or a class"),
        ("sky,0\ntree,1\n", "'sky,0': write a name, or its number of 0 or more before it"),
        ("0 sky\n" + "9" * 5000 + " tree\n", "'9{60}': a number of over 16 bits"),
        ("0 0 0 sky\n0 0 " + "9" * 5000 + " tree\n", "'0 0 9{56}': a colour is three numbers of"),
        ("-1 sky\n0 tree\n", "'-1 sky': write a name"),
        ("0 sky\n1 tree\n2 sky\n", "two classes are named 'sky'; rename one"),
        ("sky\n", "1 class; 2 to 254 are needed"),
    ],
)
def test_classes_in_doubt_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    image(tmp_path / "images/a.png")
    mask(tmp_path / "masks/a.png", (0, 1))
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(SourceError, match=rf"classes\.txt: {problem}"):
        opened(tmp_path)


def test_masks_that_are_all_unusable_say_why(tmp_path: Path) -> None:
    image(tmp_path / "images/a.png")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/a.png").write_bytes(b"nothing")
    with pytest.raises(SourceError, match=r"masks: masks have no value that counts; 1 mask can't"):
        opened(tmp_path)


@pytest.mark.parametrize("named", [False, True])
def test_letters_with_marks_are_written_in_two_ways(tmp_path: Path, named: bool) -> None:
    composed, apart = "b\u00e4ume", "ba\u0308ume"
    image(tmp_path / f"images/{composed}.jpg")
    mask(tmp_path / f"masks/{apart}.png")
    if named:
        line = f"images/{apart}.jpg,masks/{composed}.png"
        (tmp_path / "list.csv").write_text(f"path,mask\n{line}\n", encoding="utf-8")
    assert found(opened(tmp_path)) == {f"images/{composed}.jpg": (True, None)}
