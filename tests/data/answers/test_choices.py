"""Answers come back from the files of labelling tools as the corrections that a person meant."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pipeline.data.answers.choices import (
    image_name,
    labeling_config,
    read_answers,
    task,
    with_answers,
    write_dataset,
)
from pipeline.data.encoding import encode_jpeg
from pipeline.data.preparation.corrections import (
    NONE_CHOICE,
    NONE_OF_THEM,
    class_reader,
    read_corrections,
)
from pipeline.data.sources import Row
from pipeline.errors import SourceError
from pipeline.files import MOST_JSON
from tests.data.helpers import ListSource, encoded, labeled_rows, noise, run_prepare

CLASSES = ("cat", "dog")
EXPORT = Path(__file__).parent / "label_studio.json"
ODD = 'photos/4, an odd "name".jpg'


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few labelled images, some without a label, and one that can't be read."""
    out = tmp_path_factory.mktemp("prepared")
    open_ones = [Row(f"open/{n}.jpg", encoded(noise(100 + n)), None, None) for n in range(5)]
    broken = Row("broken.jpg", b"no image", None, None)
    run_prepare(ListSource([*labeled_rows(24), *open_ones, broken]), out)
    return out


def written(folder: Path, value: Any) -> Path:
    path = folder / "labels.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_an_export_of_label_studio_is_read(tmp_path: Path) -> None:
    answers = read_answers(EXPORT, tmp_path, CLASSES)
    assert answers == {"photos/1.jpg": "cat", "photos/2.jpg": "dog", ODD: ""}


def test_masks_where_images_have_one_class_are_named(tmp_path: Path) -> None:
    result = {"type": "brushlabels", "value": {"rle": [1], "brushlabels": ["cat"]}}
    value = [{"data": {"image_id": "a"}, "annotations": [{"result": [result]}]}]
    with pytest.raises(SourceError, match="'brushlabels', which task: segmentation reads"):
        read_answers(written(tmp_path, value), tmp_path, CLASSES)


def test_tasks_for_label_studio_hold_the_image_and_the_guess() -> None:
    png = encoded(noise(0))
    value = json.loads(json.dumps(task("an id", png, ("dog", 0.75), "model")))
    assert base64.b64decode(value["data"]["image"].partition("base64,")[2]) == png
    assert value["data"]["image_id"] == "an id"
    ((prediction,),) = [value["predictions"]]
    assert prediction["score"] == 0.75
    (result,) = prediction["result"]
    assert (result["type"], result["value"]) == ("choices", {"choices": ["dog"]})
    assert "predictions" not in task("an id", png, None, "model")
    view = ElementTree.fromstring(labeling_config(("a <cat>", "dog")))
    image, choices = view.find("Image"), view.find("Choices")
    assert image is not None
    assert choices is not None
    assert result["to_name"] == image.get("name") == choices.get("toName")
    assert result["from_name"] == choices.get("name")
    assert image.get("value") == "$image"
    assert [choice.get("value") for choice in choices] == ["a <cat>", "dog", NONE_CHOICE]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"annotations": None}, "task 1: must have .* as JSON"),
        ({"data": {"image": "x"}}, "task 1: must have data.image_id"),
        ({"annotations": [{"result": None}]}, "task 1: an annotation without a result"),
        ({"annotations": ["no"]}, "task 1: an annotation without a result"),
        (
            {"annotations": [{"result": [{"value": {"choices": ["cat", "dog"]}}]}]},
            "one image has one class",
        ),
        (
            {"annotations": [{"result": [{"value": {"choices": ["cow"]}}]}]},
            "'photos/1.jpg' is labelled 'cow': no class; there are cat, dog, and 'Not any",
        ),
    ],
)
def test_what_label_studio_did_not_write_is_named(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    first = json.loads(EXPORT.read_text(encoding="utf-8"))[0]
    with pytest.raises(SourceError, match=words):
        read_answers(written(tmp_path, [first | changes]), tmp_path, CLASSES)


def test_stored_jpegs_are_named_as_such_and_found_again(prepared: Path, tmp_path: Path) -> None:
    jpeg = encode_jpeg(noise(0))
    assert task("x", jpeg, None, "m")["data"]["image"].startswith("data:image/jpeg;base64,")
    write_dataset(tmp_path, [("open/1.jpg", jpeg)], {}, CLASSES)
    (file,) = (tmp_path / "data").iterdir()
    assert (file.suffix, file.read_bytes()) == (".jpeg", jpeg)
    value = {"classes": None, "labels": {f"/data/{file.name}": "dog"}}
    assert read_answers(written(tmp_path, value), prepared, CLASSES) == {"open/1.jpg": "dog"}


def test_a_data_set_for_fiftyone_holds_the_images_and_no_label(tmp_path: Path) -> None:
    images = [(f"open/{n}.jpg", encoded(noise(n))) for n in range(3)]
    write_dataset(tmp_path / "set", images, {"open/1.jpg": ("dog", 0.5)}, CLASSES)
    stored = {path.stem: path.read_bytes() for path in (tmp_path / "set" / "data").iterdir()}
    assert stored == {image_name(image_id): png for image_id, png in images}
    labels = json.loads((tmp_path / "set" / "labels.json").read_text())
    assert labels == {"classes": [*CLASSES, NONE_CHOICE], "labels": dict.fromkeys(stored)}
    guesses = json.loads((tmp_path / "set" / "predictions.json").read_text())
    assert guesses["labels"] == {image_name("open/1.jpg"): {"label": 1, "confidence": 0.5}}
    write_dataset(tmp_path / "none", images, {}, CLASSES)
    assert not (tmp_path / "none" / "predictions.json").exists()


def test_labels_of_fiftyone_are_read_in_every_form_it_writes(
    prepared: Path, tmp_path: Path
) -> None:
    names = [image_name(f"open/{n}.jpg") for n in range(5)]
    by_number = {
        names[0]: 1,
        names[1]: {"label": 0, "confidence": 0.5},
        names[2]: None,
        f"/some/where/{names[3]}.png": 2,
    }
    value = {"classes": [*CLASSES, NONE_CHOICE], "labels": by_number}
    written(tmp_path, value)
    expected = {"open/0.jpg": "dog", "open/1.jpg": "cat", "open/3.jpg": ""}
    assert read_answers(tmp_path, prepared, CLASSES) == expected
    by_label = {"classes": None, "labels": {names[4]: "dog", image_name("broken.jpg"): "cat"}}
    answers = read_answers(written(tmp_path, by_label), prepared, CLASSES)
    assert answers == {"open/4.jpg": "dog", "broken.jpg": "cat"}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"labels": {"0123": "cat"}}, "0123: no training image of this run"),
        ({"labels": {"a": ["cat"]}}, "is no single label"),
        ({"classes": ["cat"], "labels": {"a": 1}}, "1 is no single label"),
        ({"classes": ["cat"], "labels": {"a": True}}, "True is no single label"),
        ({"labels": []}, "not a labels.json of a FiftyOneImageClassificationDataset"),
        ("text", "neither Label Studio's JSON nor FiftyOne's labels.json"),
    ],
)
def test_what_fiftyone_did_not_write_is_named(
    prepared: Path, tmp_path: Path, value: Any, words: str
) -> None:
    with pytest.raises(SourceError, match=words):
        read_answers(written(tmp_path, value), prepared, CLASSES)


def test_files_that_are_no_json_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"labels\.json: no such file"):
        read_answers(tmp_path, tmp_path, CLASSES)
    (tmp_path / "labels.json").write_text("[")
    with pytest.raises(SourceError, match="not JSON"):
        read_answers(tmp_path, tmp_path, CLASSES)


def test_answers_have_a_limit_beside_their_images(tmp_path: Path) -> None:
    (export := json.loads(EXPORT.read_text(encoding="utf-8")))[0]["data"]["image"] = (
        "data:image/png;base64," + "A" * (MOST_JSON + 1)
    )
    assert len(read_answers(written(tmp_path, export), tmp_path, CLASSES)) == 3
    export[0]["data"]["more"] = "A" * (MOST_JSON + 1)
    with pytest.raises(SourceError, match="over 8 MiB beside its images"):
        read_answers(written(tmp_path, export), tmp_path, CLASSES)


def test_answers_are_added_to_what_was_said_before(tmp_path: Path) -> None:
    path = tmp_path / "corrections.csv"
    answers = {"photos/1.jpg": "cat", ODD: ""}
    text, added = with_answers(path, answers, class_reader(CLASSES))
    assert added == [*answers]
    path.write_text("id,label\nphotos/1.jpg,dog\nother,cat", encoding="utf-8")
    text, added = with_answers(path, answers, class_reader(CLASSES))
    assert text.startswith("id,label\nphotos/1.jpg,dog\nother,cat\nphotos/1.jpg,cat\n")
    path.write_text(text, encoding="utf-8")
    expected = {"photos/1.jpg": 0, "other": 0, ODD: NONE_OF_THEM}
    assert read_corrections(path, class_reader(CLASSES)) == expected
    assert with_answers(path, answers, class_reader(CLASSES)) == (text, [])
