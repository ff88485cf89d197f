"""Which networks say a class of each pixel, and which task takes which."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.errors import ParameterError
from pipeline.params import Params, parse_params
from pipeline.params.dense import body_name, check_network, is_dense
from pipeline.params.transfer import EmbedParams, check_packaged
from tests.integration.project import SMALL

BODIES = {
    "unet/tf_efficientnet_lite0": "timm/tf_efficientnet_lite0",
    "deeplabv3plus/resnet18": "timm/resnet18",
    "fcn_resnet50": "torchvision/resnet50",
    "torchvision/lraspp_mobilenet_v3_large": "torchvision/mobilenet_v3_large",
}
RIGHT = {"classification": "resnet_small", "segmentation": "unet_small"}
PLAIN = ("resnet_small", "unet", "unet/", "timm/fcn_resnet50", "timm/resnet18", "x/unet_small")


def params(**changes: Any) -> Params:
    values = copy.deepcopy(SMALL) | changes
    if values.get("task") == "segmentation":
        values["data"]["source"] = "digit_scenes"
    return parse_params(values)


def test_dense_names_and_their_bodies() -> None:
    assert is_dense("unet_small")
    assert body_name("unet_small") == "unet_small"
    for name, body in BODIES.items():
        assert is_dense(name)
        assert body_name(name) == body
    for name in PLAIN:
        assert not is_dense(name)
        assert body_name(name) == name


@pytest.mark.parametrize(
    ("task", "name", "message"),
    [
        ("segmentation", "resnet_small", "take unet_small, unet/BODY or deeplabv3plus/BODY"),
        ("classification", "unet_small", "such as resnet_small"),
        ("classification", "fcn_resnet50", "such as torchvision/resnet50"),
    ],
)
def test_a_task_takes_its_own_networks(task: str, name: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message) as caught:
        check_network(task, name)
    assert "\n" not in str(caught.value)
    with pytest.raises(ParameterError, match=message):
        params(task=task, model={"name": name})
    with pytest.raises(ParameterError, match=message):
        params(task=task, model={"name": RIGHT[task]}, teacher={"model": {"name": name}})


def test_the_right_network_passes() -> None:
    for name in ("unet_small", *BODIES):
        made = params(task="segmentation", model={"name": name})
        assert made.training("0").model.name == name
    params().training("0")


def test_packaged_weights_are_the_bodies_of_two() -> None:
    check_packaged("unet/tf_efficientnet_lite0")
    check_packaged("deeplabv3plus/tf_efficientnet_lite0")
    with pytest.raises(ParameterError, match=r"set model\.name: unet/tf_efficientnet_lite0"):
        check_packaged("fcn_resnet50")


def test_features_are_of_whole_images() -> None:
    with pytest.raises(ValidationError, match="says one class a pixel"):
        EmbedParams(source="packaged", name="unet/tf_efficientnet_lite0")
