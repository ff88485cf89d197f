"""The definitions for `ray up`: as Ray reads them, with its own schema and its own commands."""

from __future__ import annotations

import copy
import re
from typing import Any

import jsonschema
import pytest
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

from tests.cluster.definitions import CLOUDS, documents

clouds = pytest.mark.parametrize("name", CLOUDS)
TOKEN = "~/.ray/auth_token"


def prepared(name: str) -> dict[str, Any]:
    """The definition with Ray's defaults where it says nothing, as `ray up` uses it."""
    (config,) = documents(name, filled=True)
    whole: dict[str, Any] = prepare_config(copy.deepcopy(config))
    return whole


def start_options(command: str) -> dict[str, Any]:
    """The options of the `ray start` within a command, read by Ray's own command line."""
    flags = command.split("ray start ", 1)[1].split()
    return dict(start.make_context("start", flags).params)


@clouds
def test_ray_accepts_it(name: str) -> None:
    validate_config(prepared(name))


@clouds
def test_ray_s_schema_finds_a_misspelt_field(name: str) -> None:
    config = prepared(name)
    config["idle_timeout_minute"] = config.pop("idle_timeout_minutes")
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minute"):
        validate_config(config)


@clouds
def test_the_image_is_the_environment_and_nothing_is_installed_over_it(name: str) -> None:
    config = prepared(name)
    commands = [
        command for key, value in config.items() if key.endswith("_commands") for command in value
    ]
    assert commands
    assert not [command for command in commands if re.search(r"\b(pip|conda|apt|curl)\b", command)]
    assert config["docker"]["image"] == config["metadata"]["image"]


@clouds
def test_gpu_nodes_come_and_go(name: str) -> None:
    config = prepared(name)
    types = config["available_node_types"]
    assert set(types) == {"head", "gpu", "gpu_spot"}
    assert types["head"]["max_workers"] == 0
    for kind, most in (("gpu", "on_demand_nodes"), ("gpu_spot", "spot_nodes")):
        assert types[kind]["min_workers"] == 0
        assert types[kind]["max_workers"] == config["metadata"][most]
    assert config["idle_timeout_minutes"] > 0
    assert not config["provider"]["cache_stopped_nodes"]
    assert config["docker"]["worker_run_options"] == ["--gpus=all"]


def test_spot_differs_from_on_demand_by_its_price_alone() -> None:
    aws = prepared("aws")["available_node_types"]
    spot = dict(aws["gpu_spot"]["node_config"])
    assert spot.pop("InstanceMarketOptions") == {"MarketType": "spot"}
    assert spot == aws["gpu"]["node_config"]
    gcp = prepared("gcp")["available_node_types"]
    assert gcp["gpu_spot"]["node_config"]["scheduling"]["provisioningModel"] == "SPOT"
    assert gcp["gpu_spot"]["resources"] == gcp["gpu"]["resources"]


@clouds
def test_the_token_is_on_and_travels_by_ssh_alone(name: str) -> None:
    config = prepared(name)
    assert "--env=RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"] == {TOKEN: TOKEN}
    assert any(f"test -r {TOKEN}" in command for command in config["head_setup_commands"])
    assert any(f"test -r {TOKEN}" in command for command in config["worker_setup_commands"])


@clouds
def test_the_dashboard_is_on_loopback(name: str) -> None:
    config = prepared(name)
    head = start_options(config["head_start_ray_commands"][-1])
    assert head["head"]
    assert head["dashboard_host"] == "127.0.0.1"
    assert head["autoscaling_config"] == "~/ray_bootstrap_config.yaml"
    worker = start_options(config["worker_start_ray_commands"][-1])
    assert worker["address"] == f"$RAY_HEAD_IP:{head['port']}"
    assert worker["object_manager_port"] == head["object_manager_port"]


@clouds
def test_containers_gain_no_rights(name: str) -> None:
    options = prepared(name)["docker"]["run_options"]
    assert {"--cap-drop=ALL", "--security-opt=no-new-privileges"} <= {*options}
    assert not [option for option in options if "privileged" in option or "docker.sock" in option]


def test_aws_asks_for_the_second_form_of_instance_metadata_and_opens_no_port_of_its_own() -> None:
    config = prepared("aws")
    assert "security_group" not in config["provider"]
    for kind in config["available_node_types"].values():
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
        assert kind["node_config"]["SecurityGroupIds"] == [config["metadata"]["security_group"]]
        assert "KeyName" not in kind["node_config"]


@clouds
def test_workers_have_rights_of_their_own(name: str) -> None:
    types = prepared(name)["available_node_types"]
    key = "IamInstanceProfile" if name == "aws" else "serviceAccounts"
    (config,) = documents(name)
    head, worker = (
        str(config["available_node_types"][kind]["node_config"][key]) for kind in ("head", "gpu")
    )
    assert "head" in head
    assert "worker" in worker
    assert types["gpu_spot"]["node_config"][key] == types["gpu"]["node_config"][key]
