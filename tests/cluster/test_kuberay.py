"""The KubeRay manifests: against the documented fields, and as Ray's autoscaler reads them."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr as autoscaling_config,
)
from ray.scripts.scripts import start

from tests.cluster.definitions import KUBERAY, cluster_spec, documents, pod_specs

SCHEMA = json.loads((Path(__file__).parent / "schemas" / "kuberay.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
UNITS = {"": 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}

manifests = pytest.mark.parametrize("name", KUBERAY)


def ray_document(name: str) -> dict[str, Any]:
    """The RayCluster or RayJob of a manifest, as a deep copy that may be changed."""
    return copy.deepcopy(documents(name, filled=True)[0])


def quantity(value: str) -> float:
    """A Kubernetes quantity as a number, bytes for memory."""
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", value).groups()  # type: ignore[union-attr]
    return float(number) * UNITS[unit]


def groups(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The head's group and the workers'."""
    cluster = cluster_spec(document)
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def test_the_schema_is_one() -> None:
    VALIDATOR.check_schema(SCHEMA)


@manifests
def test_every_document_keeps_to_the_documented_fields(name: str) -> None:
    for document in documents(name, filled=True):
        VALIDATOR.validate(document)


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("spec",), "authOption", {}),
        (("spec", "authOptions"), "secret", "selftrain-token"),
        (("spec", "autoscalerOptions"), "idleTimeoutSeconds", "600"),
        (("spec", "headGroupSpec", "rayStartParams"), "num-cpus", 0),
        (("spec", "workerGroupSpecs", 1), "maxReplica", 8),
        (("spec", "workerGroupSpecs", 1, "template", "spec"), "toleration", []),
        (
            ("spec", "headGroupSpec", "template", "spec", "containers", 0, "resources", "limits"),
            "cpu",
            "4 cores",
        ),
        (("metadata", "annotations"), "selftrain/gpus", 1),
    ],
)
def test_the_schema_finds_what_is_misspelt(path: tuple[Any, ...], key: str, value: object) -> None:
    document = place = ray_document("kuberay-cluster")
    for step in path:
        place = place[step]
    place[key] = value
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(document)


@manifests
def test_ray_s_autoscaler_reads_its_groups(name: str) -> None:
    spec = cluster_spec(ray_document(name))
    resource = {"metadata": {"name": "selftrain", "namespace": "default"}, "spec": spec}
    types = autoscaling_config(resource)["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0
    assert types["cpu"]["resources"] == {"CPU": 8, "memory": 32 * 2**30}
    assert types["gpu"]["resources"] == {"CPU": 8, "GPU": 1, "memory": 32 * 2**30}
    assert types["gpu-spot"]["resources"] == types["gpu"]["resources"]
    assert all(types[kind]["min_workers"] == 0 for kind in ("cpu", "gpu", "gpu-spot"))
    assert spec["enableInTreeAutoscaling"]


@manifests
def test_ray_start_knows_its_parameters(name: str) -> None:
    for group in groups(ray_document(name)):
        flags = [f"--{key}={value}" for key, value in group["rayStartParams"].items()]
        start.make_context("start", flags)


@manifests
def test_the_ray_version_is_the_lock_s(name: str) -> None:
    assert cluster_spec(ray_document(name))["rayVersion"] == ray.__version__


@manifests
def test_the_token_comes_from_a_secret(name: str) -> None:
    document = ray_document(name)
    options = cluster_spec(document)["authOptions"]
    assert options == {
        "mode": "token",
        "secretName": document["metadata"]["annotations"]["selftrain/token-secret"],
    }


@manifests
def test_pods_are_confined(name: str) -> None:
    for spec in pod_specs(ray_document(name)):
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["runAsUser"] == 1000  # as the image's
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["runAsNonRoot"]
            assert not context["allowPrivilegeEscalation"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            assert container["resources"]["limits"].keys() >= {"cpu", "memory"}


@manifests
def test_ray_writes_only_where_a_volume_is(name: str) -> None:
    for group in groups(ray_document(name)):
        spec = group["template"]["spec"]
        (container,) = spec["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert mounted.keys() == {"/home/selftrain", "/tmp", "/tmp/ray", "/dev/shm"}
        assert {volume["name"] for volume in spec["volumes"]} == {*mounted.values()}


@manifests
def test_the_object_store_fits_shared_memory_and_that_the_pod(name: str) -> None:
    for group in groups(ray_document(name)):
        spec = group["template"]["spec"]
        volumes = {volume["name"]: volume["emptyDir"] for volume in spec["volumes"]}
        shared = quantity(volumes["shm"]["sizeLimit"])
        assert volumes["shm"]["medium"] == "Memory"
        assert float(group["rayStartParams"]["object-store-memory"]) < shared
        assert shared < quantity(spec["containers"][0]["resources"]["limits"]["memory"]) / 2


@manifests
def test_gpu_groups_ask_for_gpus_and_are_let_onto_their_nodes(name: str) -> None:
    for group in cluster_spec(ray_document(name))["workerGroupSpecs"]:
        spec = group["template"]["spec"]
        resources = spec["containers"][0]["resources"]
        assert resources["requests"] == resources["limits"]
        gpu = group["groupName"].startswith("gpu")
        assert ("nvidia.com/gpu" in resources["limits"]) == gpu
        tolerated = {toleration["key"] for toleration in spec.get("tolerations", [])}
        assert ("nvidia.com/gpu" in tolerated) == gpu
        assert ("affinity" in spec) == group["groupName"].endswith("spot")


@manifests
def test_only_its_own_pods_reach_it(name: str) -> None:
    document, policy = documents(name)
    chosen = policy["spec"]["podSelector"]["matchLabels"]
    for group in groups(document):
        assert group["template"]["metadata"]["labels"] == chosen
    first, *others = policy["spec"]["ingress"]
    assert first == {"from": [{"podSelector": {"matchLabels": chosen}}]}
    assert [rule["ports"] for rule in others] == (
        [] if name == "kuberay-cluster" else [[{"protocol": "TCP", "port": 8265}]]
    )


def test_the_cluster_s_dashboard_is_on_loopback() -> None:
    head = cluster_spec(ray_document("kuberay-cluster"))["headGroupSpec"]
    assert head["rayStartParams"]["dashboard-host"] == "127.0.0.1"
    assert head["serviceType"] == "ClusterIP"
    assert head["enableIngress"] is False


def test_a_job_s_cluster_is_the_cluster_but_for_who_reaches_its_dashboard() -> None:
    cluster, job = (cluster_spec(ray_document(name)) for name in KUBERAY)
    cluster["headGroupSpec"]["rayStartParams"]["dashboard-host"] = "0.0.0.0"
    assert json.dumps(job).replace(
        'selftrain-nodes": "job', 'selftrain-nodes": "cluster'
    ) == json.dumps(cluster)


def test_a_job_ends_with_its_cluster() -> None:
    spec = ray_document("kuberay-job")["spec"]
    assert spec["shutdownAfterJobFinishes"]
    assert spec["entrypoint"].startswith("bash -c 'git init")
    assert spec["entrypoint"].count("&&") == 3  # a step that fails ends it
    assert "working_dir" in spec["runtimeEnvYAML"]
