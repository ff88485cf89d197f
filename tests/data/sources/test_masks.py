"""Folders and tables of images with masks, as people have them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.data.masks import COLOUR, IGNORED
from pipeline.data.sources import ColumnNames, Source, open_source
from pipeline.data.sources.recognise import recognise
from pipeline.errors import ParameterError, SourceError
from tests.data.helpers import noise

CAMVID = Path(os.environ.get("SELFTRAIN_DATA", "data"), "camvid")  # skipped without


def image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed, 8, 3)).save(path)


def mask(path: Path, values: Any = (0, 1, 2, 255), kind: Any = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.resize(np.array(values, kind), (8, 8))).save(path)


def opened(path: Path, **options: Any) -> Source:
    return open_source("masks", str(path), seed=0, **options)


def found(source: Source) -> dict[str, tuple[bool, str | None]]:
    """Whether each image has a mask, and its split."""
    return {row.id: (row.label is not None, row.split) for row in source.rows()}


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images/{}.jpg", "masks/{}.png"),
        ("imgs/{}.png", "labels/{}_label.png"),
        ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
        ("img/{}.jpg", "gt/{}.png"),
        ("data/Images/{}.jpg", "data/annotations/{}_mask.png"),
        ("images/{}.jpg", "annotations/trimaps/{}.png"),
        ("photos/of streets/{}.jpg", "masks/by hand/{}.png"),
        ("{}.jpg", "{}_mask.png"),
        ("{}.jpg", "masks/{}.png"),
        ("scene 1/{}.jpg", "scene 1/{}-seg.png"),
        ("leftImg8bit/x/{}_leftImg8bit.png", "gtFine/x/{}_gtFine_labelIds.png"),
    ],
)
def test_images_and_masks_are_paired_by_place_and_name(
    tmp_path: Path, images: str, masks: str
) -> None:
    for number in range(4):
        image(tmp_path / images.format(number), number)
        if number != 3:
            mask(tmp_path / masks.format(number))
    assert recognise(str(tmp_path)) == "masks"
    source = opened(tmp_path)
    expected = {images.format(number): (number != 3, None) for number in range(4)}
    assert found(source) == expected
    assert source.classes == ["class_0", "class_1", "class_2"]
    assert source.left_out == []


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("{}/images/{}.jpg", "{}/masks/{}.png"),
        ("images/{}/{}.jpg", "masks/{}/{}.png"),
        ("{}_images/{}.jpg", "{}_masks/{}.png"),
        ("{}/{}.jpg", "{}annot/{}.png"),
    ],
)
def test_splits_are_by_folder(tmp_path: Path, images: str, masks: str) -> None:
    for place, part in enumerate(("train", "val", "test")):
        for number in range(2):
            image(tmp_path / images.format(part, number), 2 * place + number)
            mask(tmp_path / masks.format(part, number))
    image(tmp_path / "unlabeled" / "0.jpg", 9)
    image(tmp_path / images.format("test", "alone"), 10)
    source = opened(tmp_path)
    splits = {"train": "train", "val": "validation", "test": "test"}
    expected = {
        images.format(part, number): (True, split)
        for part, split in splits.items()
        for number in range(2)
    }
    lone = {"unlabeled/0.jpg": (False, None), images.format("test", "alone"): (False, None)}
    assert found(source) == expected | lone
    assert "1 test image without a mask: unlabelled" in source.notes


def test_a_table_names_masks_splits_and_groups(tmp_path: Path) -> None:
    lines = ["file;mask;split;patient"]
    for number in range(4):
        image(tmp_path / f"pictures/{number}.jpg", number)
        mask(tmp_path / f"other/m{number}.png")
        split = ("train", "val", "test", "train")[number]
        lines.append(f"pictures/{number}.jpg;other/m{number}.png;{split};p{number // 2}")
    image(tmp_path / "pictures/more.jpg", 9)
    lines.append("pictures/gone.jpg;other/m0.png;train;p9")
    lines.append("pictures/more.jpg;../../secret.png;train;p9")
    table = tmp_path / "list.csv"
    table.write_text("\n".join(lines))
    source = opened(table, columns=ColumnNames(group="patient"))
    rows = {row.id: row for row in source.rows()}
    assert recognise(str(table)) == "masks"
    assert [
        (rows[f"pictures/{n}.jpg"].split, rows[f"pictures/{n}.jpg"].group) for n in range(4)
    ] == [
        ("train", "p0"),
        ("validation", "p0"),
        ("test", "p1"),
        ("train", "p1"),
    ]
    assert rows["pictures/gone.jpg"].problem == "unreadable: No such file or directory"
    assert rows["pictures/more.jpg"].problem == "mask: unreadable: No such file or directory"


def test_an_empty_cell_of_masks_is_an_unlabelled_image(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        image(tmp_path / f"images/{name}.jpg")
        mask(tmp_path / f"masks/{name}.png")
    (tmp_path / "list.csv").write_text("path,mask\nimages/a.jpg,masks/a.png\nimages/b.jpg,\n")
    source = opened(tmp_path)
    assert found(source) == {f"images/{name}.jpg": (name != "b", None) for name in "abc"}
    assert dict(source.left_out)["masks/b.png"] == "named in no row of the table"


def test_grey_levels_in_one_channel_and_in_three_are_the_same_classes(tmp_path: Path) -> None:
    for number, mode in enumerate(("L", "RGB")):
        image(tmp_path / f"images/{number}.png", number)
        path = tmp_path / f"masks/{number}.png"
        mask(path, (0, 1, 2))
        Image.open(path).convert(mode).save(path)
    assert opened(tmp_path).classes == ["class_0", "class_1", "class_2"]


@pytest.mark.parametrize(
    ("masks", "names", "note"),
    [
        ([(0, 1), (0, 1, 255)], ["background", "object"], "255 ignored"),
        ([(0, 1), (0, 255)], ["background", "object"], "1 mask with 0 and 255 alone: 255 is ign"),
        ([(0, 1, 2), (0, 2)], ["class_0", "class_1", "class_2"], "255 ignored"),
        ([range(64)] * 2 + [(70,)], None, "65 values: so many are in masks that were smoothed"),
    ],
)
def test_values_that_may_mean_something_else_are_pointed_out(
    tmp_path: Path, masks: list[Any], names: list[str] | None, note: str
) -> None:
    for number, values in enumerate(masks):
        image(tmp_path / f"images/{number}.png", number)
        mask(tmp_path / f"masks/{number}.png", values)
    source = opened(tmp_path)
    assert names is None or source.classes == names
    assert note in source.notes[1]


def test_names_that_leave_black_and_white_masks_without_an_object_are_pointed_out(
    tmp_path: Path,
) -> None:
    image(tmp_path / "images/a.png")
    mask(tmp_path / "masks/a.png", (0, 255))
    (tmp_path / "classes.txt").write_text("sky\ntree\nroad\n")
    (note,) = (note for note in opened(tmp_path).notes if note.startswith("classes.txt"))
    assert "the first mask has 0 and 255 alone: 255 is ignored in them too" in note


@pytest.mark.parametrize(
    ("text", "names", "values"),
    [
        ("sky\ntree\n", ["sky", "tree"], {0: 0, 1: 1}),
        ("sky\nvoid\ntree\n255 ignore\n", ["sky", "tree"], {0: 0, 1: IGNORED, 2: 1}),
        ("7 sky\n3: tree\n", ["tree", "sky"], {3: 0, 7: 1}),
        (
            "0 0 0 void\n128 64 0 sky blue\n0 0 192 tree\n",
            ["sky blue", "tree"],
            {COLOUR: IGNORED, COLOUR + 0x804000: 0, COLOUR + 192: 1},
        ),
        ("name,r,g,b\nsky,1,2,3\ntree,4,5,6\n", ["sky", "tree"], {COLOUR + 0x010203: 0}),
    ],
)
def test_classes_are_read(
    tmp_path: Path, text: str, names: list[str], values: dict[int, int]
) -> None:
    image(tmp_path / "images/a.png")
    mask(tmp_path / "masks/a.png", (0, 1))
    (tmp_path / "classes.txt").write_text(text)
    source = opened(tmp_path)
    (row,) = source.rows()
    assert source.classes == names
    assert values.items() <= dict(row.label.values).items()
    assert dict(row.label.values)[IGNORED] == IGNORED
    assert [reason for name, reason in source.left_out] == ["read: what it says of the images"]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_black_and_white_masks_are_two_classes(tmp_path: Path, mode: str, named: bool) -> None:
    for number in range(3):
        image(tmp_path / f"images/{number}.png", number)
        path = tmp_path / f"masks/{number}.png"
        mask(path, (0, 255) if number else (0,))
        Image.open(path).convert(mode).save(path)
    if named:
        (tmp_path / "classes.txt").write_text("sky\nbird\n")
    source = opened(tmp_path)
    assert source.classes == (["sky", "bird"] if named else ["background", "object"])
    assert dict(next(source.rows()).label.values) == {0: 0, IGNORED: 1}


def test_numbered_instances_are_objects_of_one_class(tmp_path: Path) -> None:
    image(tmp_path / "images/a.png")
    mask(tmp_path / "instances/a.png", (0, 1, 400), np.uint16)
    source = opened(tmp_path)
    (row,) = source.rows()
    assert source.classes == ["background", "object"]
    assert (row.label.values, row.label.others) == (((0, 0),), 1)


def test_values_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    image(tmp_path / "images/a.png")
    mask(tmp_path / "masks/a.png", range(64), np.uint16)
    assert len(opened(tmp_path).classes) == 64
    Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30)).save(tmp_path / "masks/a.png")
    with pytest.raises(SourceError, match=r"899 values, over 254 classes; .* the folder instances"):
        opened(tmp_path)


def test_what_is_no_image_with_a_mask_is_said(tmp_path: Path) -> None:
    image(tmp_path / "images/a.png")
    with pytest.raises(SourceError, match="no image with a mask; put masks in masks/"):
        opened(tmp_path)
    mask(tmp_path / "masks/a.png")
    mask(tmp_path / "masks/b.png")
    (tmp_path / "notes.pdf").write_bytes(b"x")
    assert (
        dict(opened(tmp_path).left_out)["masks/b.png"] == "a mask of no image, or the second of one"
    )
    with pytest.raises(ParameterError, match=r"matches no image, as 'images/a\.png'"):
        opened(tmp_path, group_pattern=r"(\d+)")


@pytest.mark.parametrize(
    ("folders", "kind"), [(("cat", "dog"), "folder"), (("mask", "no_mask"), "folder")]
)
def test_classes_in_folders_stay_what_they_are(
    tmp_path: Path, folders: tuple[str, str], kind: str
) -> None:
    for place, folder in enumerate(folders):
        for number in range(3):
            image(tmp_path / folder / f"{number}.png", 3 * place + number)
    assert recognise(str(tmp_path)) == kind


@pytest.mark.skipif(not CAMVID.exists(), reason="no camvid")
def test_camvid_is_read_as_it_is() -> None:
    source = opened(CAMVID, group_pattern=r"images/(\w+?)_")
    rows = list(source.rows())
    assert (len(rows), len(source.classes)) == (701, 11)
    assert {row.group for row in rows} == {"0001TP", "0006R0", "0016E5", "Seq05VD"}
    assert all(row.label is not None for row in rows)


def test_a_column_of_sets_that_are_no_splits_is_not_one(tmp_path: Path) -> None:
    lines = ["name,dataset,published_split,sequence"]
    for number in range(3):
        image(tmp_path / f"images/{number}.jpg", number)
        mask(tmp_path / f"masks/{number}.png")
        lines.append(f"{number},camvid,test,s{number}")
    (tmp_path / "images.csv").write_text("\n".join(lines))
    source = opened(tmp_path)
    assert {row.split for row in source.rows()} == {None}
    note = "images.csv: columns path 'name'; not used: 'dataset', 'published_split', 'sequence'"
    assert note in source.notes


def test_frames_of_sequences_are_pointed_out(tmp_path: Path) -> None:
    for number in range(24):
        image(tmp_path / f"images/drive_{number % 2}_f{number:03d}.jpg", number)
        mask(tmp_path / f"masks/drive_{number % 2}_f{number:03d}.png")
    source = opened(tmp_path)
    (note,) = (note for note in source.notes if "sequences" in note)
    assert note.startswith("names as of frames of 2 sequences, e.g. 'drive_0'")
    pattern = note.split("'")[3]
    grouped = opened(tmp_path, group_pattern=pattern)
    assert {row.group for row in grouped.rows()} == {"drive_0", "drive_1"}
    assert not any("frames" in note for note in grouped.notes)
