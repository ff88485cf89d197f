import re
from typing import Any

import pytest
import torch

from pipeline.errors import ParameterError
from pipeline.models.build import build_network
from pipeline.models.library import library_network
from pipeline.params import ModelParams
from pipeline.params.ladders import COMPOUND_SIDES, FAMILIES, built_in_ladder, grown
from tests.tiny import count_parameters


def model(**changes: Any) -> dict[str, Any]:
    return ModelParams(**changes).network


def grow(teacher: dict[str, Any], steps: int, **more: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"shared": model(), "ladder": None} | more
    return grown(teacher, steps=steps, where="grow", **options)


def refused(teacher: dict[str, Any], steps: int, **more: Any) -> str:
    with pytest.raises(ParameterError) as caught:
        grow(teacher, steps, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("resnet18", ["resnet34", "resnet50", "resnet101", "resnet152"]),
        ("timm/resnet50", ["timm/resnet101", "timm/resnet152"]),
        ("densenet121", ["densenet169", "densenet201"]),
        ("vgg13_bn", ["vgg16_bn", "vgg19_bn"]),
        ("wrn_28_2", ["wrn_28_4", "wrn_28_8", "wrn_28_10"]),
        ("wrn_16_8", ["wrn_16_10"]),
    ],
)
def test_a_family_goes_from_small_to_large(name: str, names: list[str]) -> None:
    assert [grow(model(name=name), n + 1) for n in range(len(names))] == [
        {"name": larger} for larger in names
    ]
    assert f"goes on by {len(names)}, to {names[-1]};" in refused(model(name=name), len(names) + 1)


@pytest.mark.parametrize(
    "teacher",
    [
        model(),
        model(name="unet_small"),
        model(name="wrn_10_1"),
        model(name="efficientnet"),
    ],
)
def test_each_size_has_more_parameters(teacher: dict[str, Any]) -> None:
    counts = []
    for rung in built_in_ladder(teacher)[:3]:
        with torch.device("meta"):
            options = teacher | dict(rung)
            network = build_network(**options, num_classes=3, channels=1, image_size=32, seed=0)
        counts.append(count_parameters(network))
    assert counts == sorted(set(counts))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family[0])
def test_every_family_is_of_networks_that_are_there(family: tuple[str, ...]) -> None:
    noise = {"dropout_rate": 0.0, "stochastic_depth_rate": 0.0}
    counts = []
    for name in family[:2]:
        with torch.device("meta"):
            network = library_network(name, num_classes=5, channels=3, noise=noise)
        counts.append(count_parameters(network))
    assert counts[0] < counts[1]


def test_compound_grows_the_image_in_proportion() -> None:
    for steps in range(1, 8):
        size = grow(model(name="efficientnet", input_size=112), steps)
        expected = round(COMPOUND_SIDES[steps] / 2)
        assert size == {"name": "efficientnet", "compound": steps, "input_size": expected}
    alone = grow(model(name="efficientnet", compound=2), 3)
    assert alone == {"name": "efficientnet", "compound": 5, "input_size": None}


def test_no_step_is_the_teacher_itself_wherever_it_is() -> None:
    assert grow(model(width=17), 0)["width"] == 17
    assert grow(model(name="lenet5"), 0) == {"name": "lenet5"}


LADDER = [{"name": "lenet5"}, {"width": 8}, {"width": 16, "depth": 2}, {"name": "wrn_28_2"}]


def test_a_ladder_of_one_s_own_is_of_overrides_of_the_shared_model() -> None:
    shared = model(width=4)
    sizes = [
        {"name": "lenet5", "width": 4, "depth": 1},
        {"name": "resnet_small", "width": 8, "depth": 1},
        {"name": "resnet_small", "width": 16, "depth": 2},
        {"name": "wrn_28_2", "width": 4, "depth": 1},
    ]
    for start, size in enumerate(sizes):
        for end in range(start, len(sizes)):
            teacher = shared | size
            assert grow(teacher, end - start, shared=shared, ladder=LADDER) == sizes[end]


def test_what_cannot_be_grown_is_refused_with_where_it_stands() -> None:
    assert "alone of its kind" in refused(model(name="lenet5"), 1)
    message = refused(model(width=17), 1)
    assert re.search(r"resnet_small \(width 17, depth 1\), which is not on the ladder: ", message)
    assert "resnet_small (width 16, depth 1), resnet_small (width 32, depth 1)" in message
    assert "which is not on the ladder" in refused(model(width=4), 1, ladder=LADDER)
