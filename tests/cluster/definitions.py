"""What the tests of the definitions read: each file, parsed, with a user's values in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster" / "definitions"
CLOUDS = ("aws", "gcp")
KUBERAY = ("kuberay-cluster", "kuberay-job")
PLACEHOLDER = re.compile(r"<[a-z][a-z :/.-]*>", re.IGNORECASE)

Document = dict[str, Any]


def text_of(name: str) -> str:
    """The text of a YAML definition."""
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def documents(name: str, *, filled: bool = False) -> list[Document]:
    """The documents of a YAML definition; with every placeholder replaced where `filled`."""
    text = PLACEHOLDER.sub("set", text_of(name)) if filled else text_of(name)
    return list(YAML(typ="safe").load_all(text))


def pod_specs(document: Document) -> list[Document]:
    """The specifications of every pod of a RayCluster or RayJob."""
    spec = document["spec"]
    submitter = [spec["submitterPodTemplate"]] if "submitterPodTemplate" in spec else []
    cluster = cluster_spec(document)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [template["spec"] for template in (*submitter, *(group["template"] for group in groups))]


def cluster_spec(document: Document) -> Document:
    """The RayClusterSpec of a RayCluster or RayJob."""
    spec: Document = document["spec"]
    inner: Document = spec.get("rayClusterSpec", spec)
    return inner
