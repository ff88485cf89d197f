"""Masks of a labelling tool that can't be used are named, and the others are used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.data.answers import mask_answers
from pipeline.data.answers.mask_answers import read_mask_answers
from pipeline.errors import SourceError
from tests.data.answers.test_mask_answers import (
    CLASSES,
    Change,
    as_coco,
    exported,
    prepared,
    region,
    results,
)

__all__ = ["prepared"]  # a fixture


def test_an_image_that_coco_s_json_lists_twice_is_named(prepared: Path, tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        value["images"][1]["file_name"] = value["images"][0]["file_name"]
        for each in value["annotations"]:
            each |= {"image_id": str(each["image_id"]), "iscrowd": "0"}

    path = as_coco(tmp_path, change)
    answers, left_out = read_mask_answers(path, prepared, CLASSES, tmp_path)
    assert list(answers) == ["open/2"]
    assert [reason for _, reason in left_out] == ["listed twice; keep one"] * 2


def first(task: dict[str, Any]) -> dict[str, Any]:
    return results(task)[0]


BROKEN: dict[str, tuple[Change, str]] = {
    "another shape": (
        lambda task: [each.update(original_width=9) for each in results(task)],
        "9x8, its image is 12x8",
    ),
    "no size": (
        lambda task: [each.update(original_width="9") for each in results(task)],
        "9x8, its image is 12x8",
    ),
    "too large": (
        lambda task: (
            [each.update(original_width=12000, original_height=8000) for each in results(task)]
        ),
        "12000x8000, its image is 12x8",
    ),
    "turned": (lambda task: first(task).update(image_rotation=90), "its image is turned"),
    "several sizes": (lambda task: first(task).update(original_width=9), "regions of several"),
    "another class": (
        lambda task: first(task)["value"].update(brushlabels=["tree"]),
        "label 'tree': no class",
    ),
    "two classes": (
        lambda task: first(task)["value"].update(brushlabels=["box", "disk"]),
        "a region without one label",
    ),
    "no bytes": (lambda task: first(task)["value"].update(rle=[1, 2, 300]), "bytes must be in"),
    "cut short": (lambda task: first(task)["value"]["rle"].__delitem__(slice(8, None)), "early"),
    "a bomb": (
        lambda task: first(task)["value"]["rle"].__setitem__(slice(0, 4), [255] * 4),
        "a brush region is not of 12x8 pixels",
    ),
    "another kind": (
        lambda task: results(task).append(
            first(task) | {"type": "ellipselabels", "value": {"ellipselabels": ["box"]}}
        ),
        "a region of type 'ellipselabels'; use the brush or a polygon",
    ),
    "points of nothing": (
        lambda task: results(task).append(region("box", points=[[0, "x"], [1, 1]])),
        "a polygon's points are no pairs of x and y",
    ),
    "points of three numbers": (
        lambda task: results(task).append(region("box", points=[[0, 0, 50], [0, 50, 50]])),
        "a polygon's points are no pairs of x and y",
    ),
    "another task's bytes": (
        lambda task: first(task)["value"].update(rle=2),
        "a region of type 'brushlabels'",
    ),
    "bytes by name": (
        lambda task: first(task)["value"].update(rle="2"),
        "a brush region can't be read",
    ),
    "points without end": (
        lambda task: results(task).append(region("box", points=[[1e308, 0]] * 3)),
        "far outside",
    ),
    "points outside": (
        lambda task: results(task).append(region("box", points=[[-50, 0], [-20, 0], [-20, 90]])),
        "lies outside of the image",
    ),
    "nothing drawn": (lambda task: results(task).clear(), "no region"),
    "not this run's": (lambda task: task["data"].update(image_id="else"), "no training image"),
}


@pytest.mark.parametrize(("change", "words"), BROKEN.values(), ids=BROKEN)
def test_an_answer_that_can_not_be_used_is_named_and_the_others_are_used(
    change: Change, words: str, prepared: Path, tmp_path: Path
) -> None:
    path = exported(tmp_path, change)
    answers, ((name, reason),) = read_mask_answers(path, prepared, CLASSES, tmp_path)
    assert list(answers) == ["open/1", "open/2"]
    assert name in ("open/0", "else")
    assert words in reason


def test_what_one_image_may_take_has_limits(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mask_answers, "MOST_REGIONS", 1)
    _, left_out = read_mask_answers(exported(tmp_path), prepared, CLASSES, tmp_path)
    assert {reason for _, reason in left_out} == {"over 1 regions"}
    monkeypatch.setattr(mask_answers, "MOST_REGIONS", 5)
    monkeypatch.setattr(mask_answers, "MOST_BYTES", 2)
    _, left_out = read_mask_answers(exported(tmp_path), prepared, CLASSES, tmp_path)
    assert [reason for _, reason in left_out] == ["a brush region of over 0 MiB"] * 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "not JSON"),
        ('{"images": []}', "'annotations' is not a list"),
        ("[{}]", "task 1: must have data.image_id and annotations"),
        ('[{"data": {"image_id": "a"}, "annotations": [{}]}]', "task 1: an annotation without"),
        ('{"images": [{}], "annotations": [], "categories": []}', "an image needs a file_name"),
        ('{"images": [], "annotations": [], "categories": [{}]}', "a category needs a name"),
        ('{"images": [], "annotations": [{}], "categories": []}', "an annotation of image None"),
    ],
)
def test_what_is_no_export_is_refused(
    text: str, words: str, prepared: Path, tmp_path: Path
) -> None:
    path = tmp_path / "export.json"
    with pytest.raises(SourceError, match="no such file"):
        read_mask_answers(path, prepared, CLASSES, tmp_path)
    path.write_text(text)
    with pytest.raises(SourceError, match=words):
        read_mask_answers(path, prepared, CLASSES, tmp_path)
