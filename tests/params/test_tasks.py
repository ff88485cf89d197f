from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.params import Params
from pipeline.params.tasks import IMAGES

DATA = {
    "classification": {"source": "digits", "image_size": 32},
    "segmentation": {"source": "digit_scenes", "image_size": 32},
}
OTHER: dict[tuple[str, str], Any] = {
    ("data", "validation"): "folds",
    ("embed", "source"): "packaged",
    ("augment", "mix"): "mixup",
    ("train", "contrastive_weight"): 0.5,
    ("transfer", "mode"): "head",
    ("predict", "propagation"): {},
    ("select", "distribution_alignment"): "uniform",
    ("select", "images_per_class"): 5,
    ("select", "strangers"): "drop",
    ("evaluate", "robustness_images"): 10,
}


def params(task: str = "segmentation", **sections: dict[str, Any]) -> Params:
    values: dict[str, Any] = {"task": task, "data": DATA[task], "train": {"steps": 10}}
    for name, section in sections.items():
        values[name] = values.get(name, {}) | section
    return Params.model_validate(values)


def test_all_that_needs_one_class_an_image_is_tried_here() -> None:
    assert OTHER.keys() == IMAGES.keys()
    params()


@pytest.mark.parametrize(("section", "name"), OTHER)
def test_what_needs_one_class_an_image_is_refused_for_other_tasks(section: str, name: str) -> None:
    given: dict[str, Any] = {section: {name: OTHER[section, name]}}
    params("classification", **given)
    with pytest.raises(ValidationError, match=rf"{section}\.{name} = .*task = segmentation"):
        params(**given)


@pytest.mark.parametrize(
    ("overrides", "where"),
    [
        ({"teacher": {"augment": {"mix": "both"}}}, "teacher.augment.mix = 'both'"),
        (
            {"select": {"images_per_class": 3}},
            "generations.1.select.images_per_class = 3",
        ),
        (
            {"student": {"transfer": {"mode": "auto"}}},
            "generations.1.student.transfer.mode = 'auto'",
        ),
    ],
)
def test_so_it_is_where_one_model_has_it(overrides: dict[str, Any], where: str) -> None:
    if "teacher" not in overrides:
        generation = {"teacher": "0", "select": {}, "student": {}} | overrides
        overrides = {"generations": {"1": generation}}
    with pytest.raises(ValidationError, match=where.replace(".", r"\.")):
        params(**overrides)


def test_what_needs_one_class_a_pixel_is_refused_for_whole_images() -> None:
    params(augment={"mix": "classmix"})
    with pytest.raises(ValidationError, match="mix = 'classmix': needs one class a pixel"):
        params("classification", augment={"mix": "classmix"})
