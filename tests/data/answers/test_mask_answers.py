"""Masks go out to Label Studio and as COCO's JSON, and come back as a person left them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.data.answers.corrected_masks import FOLDER
from pipeline.data.answers.mask_answers import read_mask_answers
from pipeline.data.answers.mask_tasks import (
    MaskTask,
    label_studio_task,
    mask_config,
    write_coco,
)
from pipeline.data.masks import IGNORED
from pipeline.data.preparation.corrections import NONE_CHOICE
from pipeline.tasks import open_task
from tests.data.helpers import ListSource, run_prepare
from tests.data.preparation.test_prepare_masks import row

CLASSES = ["background", "box", "disk"]
SIZE = (12, 8)
TASK = open_task("segmentation")
Change = Callable[[dict[str, Any]], object]


def source(classes: list[str] | None = None) -> ListSource:
    """24 images with masks, and 6 without."""
    return ListSource(
        [row(number) for number in range(24)]
        + [replace(row(100 + n), id=f"open/{n}", label=None) for n in range(6)],
        classes or CLASSES,
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    run_prepare(source(), out, task=TASK)
    return out


def mask(seed: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 3, size[::-1], np.uint8)


def tasks(size: tuple[int, int] = SIZE) -> list[MaskTask]:
    out = io.BytesIO()
    Image.new("RGB", size).save(out, "PNG")
    return [
        MaskTask(f"open/{number}", out.getvalue(), "png", size, mask(number, size), 0.5)
        for number in range(3)
    ]


def exported(folder: Path, change: Change = lambda task: None, **form: Any) -> Path:
    """An export of Label Studio in which nobody changed a mask but `change` the first task's."""
    value = [label_studio_task(task, CLASSES, "a model") for task in tasks(**form)]
    for each in value:
        (prediction,) = each.pop("predictions")
        each["annotations"] = [{"result": prediction["result"], "updated_at": "2024"}]
    change(value[0])
    path = folder / "export.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def as_coco(folder: Path, change: Change = lambda value: None, **form: Any) -> Path:
    write_coco(folder / "coco", tasks(**form), CLASSES)
    path = folder / "coco" / "annotations.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    return path


def mask_file(folder: Path, label: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(folder / FOLDER / label), np.uint8)


@pytest.mark.parametrize("export", [exported, as_coco])
def test_masks_that_nobody_changed_come_back_as_they_went_out(
    export: Callable[[Path], Path], prepared: Path, tmp_path: Path
) -> None:
    answers, left_out = read_mask_answers(export(tmp_path), prepared, CLASSES, tmp_path)
    assert (list(answers), left_out) == (["open/0", "open/1", "open/2"], [])
    for number, label in enumerate(answers.values()):
        np.testing.assert_array_equal(mask_file(tmp_path, label), mask(number))


@pytest.mark.parametrize("export", [exported, as_coco])
def test_a_smaller_picture_s_masks_come_back_at_the_image_s_own_size(
    export: Callable[..., Path], prepared: Path, tmp_path: Path
) -> None:
    answers, _ = read_mask_answers(export(tmp_path, size=(6, 4)), prepared, CLASSES, tmp_path)
    found = mask_file(tmp_path, answers["open/1"])
    np.testing.assert_array_equal(found, mask(1, (6, 4)).repeat(2, 0).repeat(2, 1))


def results(task: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = task["annotations"][0]["result"]
    return found


def region(label: str, **value: Any) -> dict[str, Any]:
    size = {"original_width": SIZE[0], "original_height": SIZE[1]}
    return size | {"type": "polygonlabels", "value": {"polygonlabels": [label], **value}}


def test_what_is_drawn_later_lies_above_and_what_nothing_covers_is_background(
    prepared: Path, tmp_path: Path
) -> None:
    points = [[0, 0], [50, 0], [50, 100], [0, 100]]  # percent

    def change(task: dict[str, Any]) -> None:
        del results(task)[0]  # the box
        results(task).append(region("box", points=points))
        results(task).append(region("ignore", points=[[75, 50], [100, 50], [100, 100], [75, 100]]))

    answers, _ = read_mask_answers(exported(tmp_path, change), prepared, CLASSES, tmp_path)
    expected = np.where(mask(0) == 1, 0, mask(0))
    expected[:, :6] = 1
    expected[4:, 9:] = IGNORED
    np.testing.assert_array_equal(mask_file(tmp_path, answers["open/0"]), expected)
    names = ["sky", "box", "disk"]  # no background: what is not said is not taught
    value = json.loads(exported(tmp_path).read_text())
    del results(value[1])[0]
    (tmp_path / "export.json").write_text(json.dumps(value))
    answers, _ = read_mask_answers(tmp_path / "export.json", prepared, names, tmp_path)
    expected = np.where(mask(1) == 2, 2, IGNORED)
    np.testing.assert_array_equal(mask_file(tmp_path, answers["open/1"]), expected)


def test_what_is_no_region_is_passed_over(prepared: Path, tmp_path: Path) -> None:
    def change(task: dict[str, Any]) -> None:
        results(task).append({"type": "relation", "from_id": "a", "to_id": "b"})
        results(task).append(
            results(task)[0] | {"type": "textarea", "value": {"text": ["a remark"]}}
        )

    path = exported(tmp_path, change)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as some editors save it
    answers, left_out = read_mask_answers(path, prepared, CLASSES, tmp_path)
    assert left_out == []
    np.testing.assert_array_equal(mask_file(tmp_path, answers["open/0"]), mask(0))


def test_images_of_none_of_the_classes_and_skipped_ones(prepared: Path, tmp_path: Path) -> None:
    def change(task: dict[str, Any]) -> None:
        results(task).append({"type": "choices", "value": {"choices": [NONE_CHOICE]}})

    value = json.loads(exported(tmp_path, change).read_text())
    value[1]["annotations"][0]["was_cancelled"] = True
    value[2]["annotations"] = []
    (tmp_path / "export.json").write_text(json.dumps(value))
    answers = read_mask_answers(tmp_path / "export.json", prepared, CLASSES, tmp_path)
    assert answers == ({"open/0": ""}, [])

    def exclude(value: dict[str, Any]) -> None:
        ids_ = {each["name"]: each["id"] for each in value["categories"]}
        own = [each for each in value["annotations"] if each["image_id"] == 1]
        own[0]["category_id"] = ids_[NONE_CHOICE]
        own[-1]["category_id"] = ids_["ignore"]

    answers = read_mask_answers(as_coco(tmp_path, exclude), prepared, CLASSES, tmp_path)
    assert answers[0]["open/0"] == ""


def test_the_interface_of_label_studio_has_what_regions_name() -> None:
    view = ElementTree.fromstring(mask_config(["a <cat>", "dog"]))
    brush = view.find("BrushLabels")
    assert brush is not None
    assert [label.get("value") for label in brush] == ["a <cat>", "dog", "ignore"]
    assert len({label.get("background") for label in brush}) == 3
    task = label_studio_task(tasks()[0], CLASSES, "a model")
    (prediction,) = task["predictions"]
    for each in prediction["result"]:
        assert (each["from_name"], each["to_name"]) == (brush.get("name"), brush.get("toName"))
    assert [each["value"]["brushlabels"] for each in prediction["result"]] == [["box"], ["disk"]]


def test_a_polygon_is_what_pillow_draws_inside(prepared: Path, tmp_path: Path) -> None:
    points = [(0.0, 0.0), (100.0, 0.0), (100.0, 100.0)]
    value = json.loads(exported(tmp_path).read_text())
    value[0]["annotations"][0]["result"] = [region("disk", points=points)]
    (tmp_path / "export.json").write_text(json.dumps(value))
    answers, _ = read_mask_answers(tmp_path / "export.json", prepared, CLASSES, tmp_path)
    picture = Image.new("L", (120, 80))
    ImageDraw.Draw(picture).polygon([(1.2 * x, 0.8 * y) for x, y in points], 2)
    shares = np.array(picture).reshape(8, 10, 12, 10).mean(axis=(1, 3)) / 2
    found = mask_file(tmp_path, answers["open/0"]) == 2
    assert found[shares > 0.9].all()
    assert not found[shares < 0.1].any()
