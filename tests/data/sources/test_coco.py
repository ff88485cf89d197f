"""COCO's JSON as people export it, and as strangers break it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.data.images import decode_stored
from pipeline.data.masks import IGNORED
from pipeline.data.sources import ColumnNames, Row, Source, open_source
from pipeline.data.sources.recognise import recognise
from pipeline.errors import ParameterError, SourceError
from tests.data.helpers import noise

HEIGHT, WIDTH = 12, 16
SQUARE = [[2, 2, 8, 2, 8, 8, 2, 8]]
INNER = [[4, 4, 6, 4, 6, 6, 4, 6]]


def annotation(image: int, category: int = 3, drawing: Any = SQUARE, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "segmentation": drawing} | more


def lists(names: list[str], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    size = {"height": HEIGHT, "width": WIDTH}
    return {
        "images": [{"id": n, "file_name": name} | size for n, name in enumerate(names)],
        "annotations": annotations,
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 0, "name": "x"}],
    }


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed, 16, 3)[:HEIGHT]).save(path)


def folder(root: Path, value: Any = None, names: tuple[str, ...] = ("a.png", "b.png")) -> Path:
    for seed, name in enumerate((*names, "unlabeled/c.png")):
        picture(root / name, seed)
    value = lists([*names], [annotation(0)]) if value is None else value
    (root / "annotations.json").write_text(json.dumps(value))
    return root


def opened(path: Path, **options: Any) -> Source:
    return open_source("coco", str(path), seed=0, **options)


def rows(path: Path) -> dict[str, Row]:
    return {row.id: row for row in opened(path).rows()}


def test_listed_or_not_an_image_without_annotations_is_unlabelled(tmp_path: Path) -> None:
    folder(tmp_path)
    assert recognise(str(tmp_path)) == recognise(str(tmp_path / "annotations.json")) == "coco"
    source = opened(tmp_path)
    found = {row.id: row.label is not None for row in source.rows()}
    assert found == {"a.png": True, "b.png": False, "unlabeled/c.png": False}
    assert source.classes == ["background", "dog"]
    assert len(source) == 3
    assert source.left_out == [("annotations.json", "read: what it says of the images")]
    assert source.notes == [
        "annotations.json: 2 images, 1 of them without annotations: unlabelled; of categories "
        "'cat', 'x' there is no annotation"
    ]


def test_rows_have_masks_of_their_categories(tmp_path: Path) -> None:
    value = lists(["a.png"], [annotation(0, 7), annotation(0, 3, INNER), annotation(0, 8)])
    value["categories"].append({"id": 8, "name": "Ignore"})
    value["annotations"][2] |= {"segmentation": [[10, 2, 14, 2, 14, 8, 10, 8]]}
    folder(tmp_path, value, ("a.png",))
    source = opened(tmp_path)
    label = next(row.label for row in source.rows() if row.id == "a.png")
    found = decode_stored(label.data)[:, :, 0]
    assert source.classes == ["background", "dog", "cat"]
    assert [found[0, 0], found[3, 3], found[5, 5], found[5, 12]] == [0, 2, 1, IGNORED]
    assert label.values == ((0, 0), (1, 1), (2, 2), (IGNORED, IGNORED))


def test_splits_are_by_files_or_folders(tmp_path: Path) -> None:
    for part, seed in (("train", 0), ("val", 1), ("test", 2)):
        picture(tmp_path / f"{part}2017/0.png", seed)
        value = lists(["0.png"], [annotation(0)])
        path = tmp_path / f"annotations/instances_{part}2017.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value))
    (tmp_path / "annotations/captions_train2017.json").write_text('{"images": []}')
    splits = {name: row.split for name, row in rows(tmp_path).items()}
    expected = {"train2017/0.png": "train", "val2017/0.png": "validation", "test2017/0.png": "test"}
    assert splits == expected


@pytest.mark.parametrize(
    "name", ["./pictures/0.png", "pictures\\0.png", "/home/someone/data/pictures/0.png", "0"]
)
def test_names_may_be_of_another_machine(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "pictures/0.png")
    (tmp_path / "list.json").write_text(json.dumps(lists([name], [annotation(0)])))
    assert [(key, row.problem) for key, row in rows(tmp_path).items()] == [("pictures/0.png", None)]


def test_groups_are_found_in_paths(tmp_path: Path) -> None:
    source = opened(folder(tmp_path, names=("p1_a.png", "p1_b.png")), group_pattern=r"(p\d)_")
    assert [row.group for row in source.rows()] == ["p1", "p1", None]
    with pytest.raises(ParameterError, match="no columns"):
        opened(tmp_path, columns=ColumnNames(group="patient"))


@pytest.mark.parametrize(
    ("drawing", "reason"),
    [
        (None, "no polygon and no RLE"),
        ([], "no polygon and no RLE"),
        ([[1, 1, 2, 2]], "three points"),
        ([[1, 1, 2, 2, 3]], "three points"),
        ([[1, 1, 2, 2, 3, "4"]], "three points"),
        ([7], "three points"),
        ([[1, 1, 2, 2, 1e300, 5]], "far outside"),
        ([[1, 1, 2, 2, -40, 5]], "far outside"),
        ([[0, 0, 16, 12] * 70_000], "outline"),
        ({"size": [WIDTH, HEIGHT], "counts": "0"}, "not of 16x12"),
        ({"size": [HEIGHT, WIDTH], "counts": [0, 500]}, "do not fit"),
        ({"size": [HEIGHT, WIDTH], "counts": [10**400, 10**400]}, "do not fit"),
        ({"size": [HEIGHT, WIDTH], "counts": [5, -3, 9]}, "do not fit"),
        ({"size": [HEIGHT, WIDTH], "counts": [10, 5, 49]}, "do not fit"),
        ({"size": [HEIGHT, WIDTH], "counts": [10, 2]}, "do not fit"),
        ({"size": [HEIGHT, WIDTH], "counts": []}, "do not fit"),
        ({"size": [HEIGHT, WIDTH], "counts": "0"}, "do not fit"),
        ({"size": [HEIGHT, WIDTH], "counts": ""}, "do not fit"),
        ([[-9, 2, -2, 2, -2, 9]], "lies outside"),
        ([[2, -9, 9, -9, 9, 0]], "lies outside"),
        ([[17, 2, 20, 2, 20, 9], [2, 13, 9, 13, 9, 20]], "lies outside"),
        ({"size": [HEIGHT, WIDTH], "counts": "Po"}, "can't be read"),
        ({"size": [HEIGHT, WIDTH], "counts": "\u00ff1"}, "can't be read"),
        ({"size": [HEIGHT, WIDTH], "counts": "PPPPPPPP1"}, "over 30 bits"),
        ({"size": [HEIGHT, WIDTH], "counts": "~1" * 9}, "can't be read"),
        ({"size": [HEIGHT, WIDTH]}, "no counts"),
    ],
)
def test_what_cannot_be_drawn_is_a_problem_of_its_image(
    tmp_path: Path, drawing: Any, reason: str
) -> None:
    value = lists(["a.png", "b.png"], [annotation(0, drawing=drawing), annotation(1)])
    found = rows(folder(tmp_path, value))
    assert reason in (found["a.png"].problem or "")
    assert (found["a.png"].problem or "").startswith("mask: ")
    assert found["b.png"].problem is None


def test_unknown_categories_files_and_images_are_counted(tmp_path: Path) -> None:
    value = lists(
        ["a.png", "b.png", "gone.png", "../../etc/passwd"],
        [annotation(0), annotation(1, 99), annotation(77), annotation(2)],
    )
    source = opened(folder(tmp_path, value))
    problems = {row.id: row.problem for row in source.rows() if row.problem}
    assert problems.pop("b.png") == "mask: an annotation of no category that the file has"
    missing = "unreadable: No such file or directory"
    assert list(problems.values()) == [missing, missing]
    assert "1 annotation of no image" in source.notes[0]


def test_ids_match_as_text_and_no_crowd_is_text_too(tmp_path: Path) -> None:
    value = lists(["a.png", "b.png"], [annotation(0), annotation(1, 7)])
    for each in value["annotations"]:
        each |= {key: str(each[key]) for key in ("image_id", "category_id")} | {"iscrowd": "0"}
    source = opened(folder(tmp_path, value))
    masks = [decode_stored(row.label.data) for row in source.rows() if row.label is not None]
    assert [np.unique(mask).tolist() for mask in masks] == [[0, 1], [0, 2]]
    for each in value["annotations"]:
        each["image_id"] = "a"
    folder(tmp_path, value)
    with pytest.raises(SourceError, match="none of 2 annotations names an image that is there"):
        opened(tmp_path)


def test_json_may_begin_with_a_mark_and_categories_have_one_name(tmp_path: Path) -> None:
    value = lists(["a.png"], [annotation(0)])
    value["categories"] = [{"id": 3, "name": "dog"}, {"id": 4, "name": "dog"}]
    folder(tmp_path, value, ("a.png",))
    path = tmp_path / "annotations.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    source = opened(tmp_path)
    assert source.classes == ["background", "dog"]
    assert source.notes == ["annotations.json: 1 image"]


def changed(**lists_of: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda value: value | lists_of


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (changed(images=3), "'images' is not a list"),
        (changed(annotations=[3]), "'annotations' is not a list"),
        (changed(categories=[{"id": 1}]), r"categories\[0\]: needs a name"),
        (changed(categories=[{"id": [], "name": "a"}]), r"categories\[0\]"),
        (changed(images=[{"id": 1}]), r"images\[0\]: needs a file_name"),
        (changed(images=[{"id": 1, "file_name": "a.png"}] * 2), r"images\[1\].*no other"),
        (changed(images=[{"id": n, "file_name": "a.png"} for n in (1, 2)]), "named twice"),
        (changed(annotations=[]), "no annotation"),
        (lambda value: [value], "'images' is not a list"),
    ],
)
def test_a_file_that_makes_no_sense_is_one_line(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    folder(tmp_path, change(lists(["a.png"], [annotation(0)])), ("a.png",))
    with pytest.raises(SourceError, match=reason):
        opened(tmp_path / "annotations.json")


def test_what_is_no_json_is_one_line(tmp_path: Path) -> None:
    folder(tmp_path)
    path = tmp_path / "annotations.json"
    path.write_text("[" * 100_000)
    with pytest.raises(SourceError, match="can't be read as COCO's JSON"):
        opened(path)
    with pytest.raises(SourceError, match="no JSON file of COCO in it"):
        opened(tmp_path)
    with pytest.raises(SourceError, match="no such folder"):
        opened(tmp_path / "none")


def test_every_file_is_accounted_for(tmp_path: Path) -> None:
    value = lists(["a.png", "gone.png"], [annotation(0), annotation(1)])
    folder(tmp_path, value, ("a.png",))
    for name in ("notes.txt", "other.json", ".hidden", "empty.png"):
        (tmp_path / name).write_bytes(b"")
    source = opened(tmp_path)
    names = {row.id for row in source.rows()} | {name for name, _ in source.left_out}
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert names == files | {"annotations.json: gone.png"}
    assert len(source) + len(source.left_out) == len(names)
