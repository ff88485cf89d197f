"""What may be said of the weights a run starts from, and where one generation differs."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pipeline.errors import ParameterError
from pipeline.params import Params, parse_params
from tests.integration.project import SMALL

DIGEST = "ab" * 32


def params(
    transfer: Any, teacher: Any = None, first: Any = None, **sections: dict[str, Any]
) -> Params:
    """SMALL with these sections `transfer`: shared, of generation 0, and of generation 1."""
    values = copy.deepcopy(SMALL) | sections
    values["transfer"] = transfer
    if teacher is not None:
        values["teacher"] = {"transfer": teacher}
    if first is not None:
        values["generations"]["1"]["student"] = {"transfer": first}
    return parse_params(values)


def test_without_a_source_nothing_is_carried_over() -> None:
    for generation in ("0", "1", "2"):
        transfer = params({}).training(generation).transfer
        assert (transfer.source, transfer.mode, transfer.is_path) == (None, "full", False)


def test_a_generation_s_own_source_replaces_the_shared_one_and_its_digest() -> None:
    shared = {"source": "weights.pth", "sha256": DIGEST, "mode": "layerwise", "layer_decay": 0.5}
    made = params(shared, first={"source": "teacher"})
    assert made.training("0").transfer.model_dump().items() >= shared.items()
    first = made.training("1").transfer
    assert (first.source, first.sha256, first.mode) == ("teacher", None, "layerwise")
    assert first.layer_decay == 0.5
    assert made.training("2").transfer == made.training("0").transfer


def test_null_takes_a_generation_out() -> None:
    made = params({"source": "teacher", "mode": "layerwise"}, teacher={"source": None})
    assert (made.training("0").transfer.source, made.training("0").transfer.mode) == (None, "full")
    assert made.training("1").transfer.mode == "layerwise"


def test_generation_0_has_no_teacher_to_start_from() -> None:
    with pytest.raises(ParameterError, match=r"generation 0 has no teacher; set teacher\.transfer"):
        params({"source": "teacher"})


@pytest.mark.parametrize("mode", ["layerwise", "auto"])
def test_a_mode_without_weights_to_keep_is_refused(mode: str) -> None:
    with pytest.raises(ParameterError, match=f"transfer.mode = '{mode}': needs weights to keep"):
        params({"mode": mode})


def test_frozen_stages_need_weights_to_keep() -> None:
    with pytest.raises(ParameterError, match=r"transfer.frozen_stages = 2: needs weights to keep"):
        params({"frozen_stages": 2})


@pytest.mark.parametrize("source", [None, "teacher", "packaged", "timm", "torchvision"])
def test_a_digest_is_of_a_path_alone(source: str | None) -> None:
    teacher = {"source": None} if source == "teacher" else None
    with pytest.raises(ParameterError, match=r"transfer\.sha256 is of a folder or file"):
        params({"source": source, "sha256": DIGEST}, teacher=teacher)


@pytest.mark.parametrize("name", ["timm/tf_efficientnet_lite0", "tf_efficientnet_lite0"])
def test_packaged_weights_are_of_one_network(name: str) -> None:
    made = params({"source": "packaged"}, model={"name": name})
    assert made.training("0").transfer.is_path is False
    with pytest.raises(ParameterError) as caught:
        params({"source": "packaged"}, model={"name": "resnet18"})
    message = str(caught.value)
    assert "'packaged'" in message
    assert "model.name = 'resnet18'; set model.name: timm/tf_efficientnet_lite0" in message


def test_statistics_are_kept_only_of_a_source() -> None:
    kept = params({"source": "teacher", "freeze_statistics": True}, teacher={"source": None})
    assert [kept.training(key).transfer.freeze_statistics for key in "01"] == [False, True]
    with pytest.raises(ParameterError, match=r"transfer\.freeze_statistics = True: needs stat"):
        params({"freeze_statistics": True})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("source", ""),
        ("sha256", "abc"),
        ("sha256", DIGEST.upper()),
        ("body_learning_rate", 0),
        ("layer_decay", 1.1),
        ("freeze_statistics", 1),
    ],
)
def test_a_wrong_value_is_named_with_its_key(key: str, value: Any) -> None:
    given = {"source": "weights.pth"} | {key: value}
    with pytest.raises(ParameterError, match=rf"transfer\.{key} = "):
        params(given)
    with pytest.raises(ParameterError, match=rf"generations\.1\.student\.transfer\.{key} = "):
        params({}, first=given)
