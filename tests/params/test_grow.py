"""A student may say how many sizes it is larger than its teacher, in place of a model's name."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import ParameterError
from pipeline.params import ModelParams, Params, Training, parse_params


def values(model: dict[str, Any], *students: dict[str, Any], **sections: Any) -> dict[str, Any]:
    generations = {
        str(number): {"teacher": str(number - 1), "select": {}, "student": student}
        for number, student in enumerate(students, start=1)
    }
    base: dict[str, Any] = {
        "data": {"source": "digits", "image_size": 32},
        "train": {"steps": 10},
        "model": model,
        "generations": generations,
    }
    return base | sections


def models(*arguments: Any, **sections: Any) -> list[ModelParams]:
    params = parse_params(values(*arguments, **sections))
    return [params.training(generation).model for generation in params.model_keys]


def refused(*arguments: Any, **sections: Any) -> str:
    with pytest.raises(ParameterError) as caught:
        parse_params(values(*arguments, **sections))
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert message.startswith("params.yaml: ")
    assert "\n" not in message
    return message


def names(*arguments: Any, **sections: Any) -> list[str]:
    return [model.name for model in models(*arguments, **sections)]


def test_growth_counts_from_the_teacher_along_the_chain() -> None:
    chain = names({"name": "wrn_28_1"}, {"grow": 1}, {"grow": 0}, {"grow": 2})
    assert chain == ["wrn_28_1", "wrn_28_2", "wrn_28_2", "wrn_28_8"]
    own = {"model": {"name": "resnet34"}}
    assert names({}, own, {"grow": 1}) == ["resnet_small", "resnet34", "resnet50"]
    assert names({}, {"grow": 2}, teacher={"model": {"name": "vgg11"}}) == ["vgg11", "vgg16"]


def test_what_is_no_size_is_as_the_shared_section_and_the_student_say() -> None:
    teacher, student = models(
        {"dropout_rate": 0.5},
        {"grow": 1, "model": {"stochastic_depth_rate": 0.2}},
        teacher={"model": {"dropout_rate": 0.0, "width": 8}},
    )
    assert (teacher.dropout_rate, teacher.width) == (0.0, 8)
    assert (student.dropout_rate, student.stochastic_depth_rate, student.width) == (0.5, 0.2, 16)


def test_a_ladder_in_the_file_comes_before_the_family_s() -> None:
    ladder = [{"width": 4}, {"width": 6, "depth": 2}, {"name": "lenet5"}]
    chain = models({"width": 4, "ladder": ladder}, {"grow": 1}, {"grow": 1})
    assert [(m.name, m.width, m.depth) for m in chain] == [
        ("resnet_small", 4, 1),
        ("resnet_small", 6, 2),
        ("lenet5", 4, 1),
    ]


def test_a_ladder_survives_the_way_to_a_worker() -> None:
    params = parse_params(values({"ladder": [{"width": 4}, {"width": 8}]}))
    training = params.training("0")
    assert training.model.rungs == [{"width": 4}, {"width": 8}]
    plain = training.model_dump(mode="json")
    assert Training.model_validate(plain, strict=False).model.rungs == training.model.rungs
    assert "ladder" not in training.model.network


def test_a_student_that_grows_may_see_larger_images() -> None:
    chain = models({"name": "efficientnet", "input_size": 24}, {"grow": 1}, {"grow": 2})
    assert [(m.compound, m.input_size) for m in chain] == [(0, 24), (1, 26), (3, 32)]
    assert models({"name": "efficientnet", "input_size": 24}, {"grow": 4})[1].input_size == 41
    message = refused({"name": "efficientnet", "input_size": 800}, {"grow": 3})
    assert "generations.1.student.grow.input_size = 1071: " in message


def test_a_network_may_see_larger_images_than_are_stored() -> None:
    assert models({"input_size": 96})[0].input_size == 96


@pytest.mark.parametrize(
    ("model", "student", "part"),
    [
        ({}, {"grow": 1, "model": {"name": "lenet5"}}, "grow = 1: says model.name too"),
        ({}, {"grow": 1, "model": {"width": 8}}, "grow = 1: says model.width too"),
        ({"name": "wrn_28_2"}, {"grow": 4}, "grow = 4: the teacher is wrn_28_2, and the ladder"),
        ({"name": "lenet5"}, {"grow": 1}, "grow = 1: the teacher is lenet5, alone"),
        ({"width": 17}, {"grow": 1}, "which is not on the ladder"),
        ({}, {"grow": -1}, "generations.1.student.grow = -1: "),
        ({}, {"grow": "1"}, "generations.1.student.grow = '1': "),
        ({}, {"grow": True}, "generations.1.student.grow = True: "),
    ],
)
def test_growth_that_cannot_be_is_refused(
    model: dict[str, Any], student: dict[str, Any], part: str
) -> None:
    assert part in refused(model, student)


def test_generation_0_has_nothing_to_grow_from() -> None:
    assert "teacher.grow = 1: generation 0" in refused({}, teacher={"grow": 1})


@pytest.mark.parametrize(
    ("ladder", "part"),
    [
        ([], "model.ladder = []: "),
        (3, "model.ladder = 3: "),
        ([{"widht": 3}], "model.ladder.0.widht is not a parameter; did you mean width?"),
        ([{"width": 8}, {"width": 0}], "model.ladder.1.width = 0: "),
        ([{"width": "8"}], "model.ladder.0.width = '8': "),
        ([{"ladder": None}], "model.ladder.0.ladder is not a parameter"),
    ],
)
def test_a_wrong_ladder_is_named(ladder: Any, part: str) -> None:
    assert part in refused({"ladder": ladder})


@pytest.mark.parametrize(
    ("key", "value"),
    [("compound", 8), ("compound", -1), ("stem", "tiny"), ("input_size", 7), ("input_size", 8.0)],
)
def test_a_wrong_value_is_named(key: str, value: Any) -> None:
    assert f"model.{key} = {value!r}: " in refused({key: value})


def test_every_parameter_of_a_network_is_one_that_builds_it() -> None:
    network = ModelParams().network
    assert network.keys() == ModelParams.model_fields.keys() - {"ladder"}
    assert Params.model_fields["model"].annotation is ModelParams
