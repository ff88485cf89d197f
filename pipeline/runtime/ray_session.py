"""Ray for the length of a block: the cluster at RAY_ADDRESS, or one started here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.runtime.quiet import muted_stderr, quiet_ray

OBJECT_STORE_BYTES = 256 << 20  # only shard numbers and parameters travel through it
SPARE_CPUS = 1  # for Ray's own tasks: workers that hold every CPU would starve them
IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


@contextmanager
def ray_session(num_cpus: int) -> Iterator[None]:
    """Ray, at RAY_ADDRESS or else started here for `num_cpus` CPUs of work and then stopped."""
    quiet_ray()
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if not os.environ.get("RAY_ADDRESS"):
        options |= {
            "address": "local",
            "num_cpus": num_cpus + SPARE_CPUS,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    elif IN_A_JOB not in os.environ:  # a job has sent the repository already
        package = Path(__file__).resolve().parents[1]
        options["runtime_env"] = {"py_modules": [str(package)], "excludes": ["__pycache__"]}
    with muted_stderr():
        ray.init(**options)
    try:
        yield
    finally:
        ray.shutdown()


def has_gpus() -> bool:
    """Whether the connected cluster has a GPU."""
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get("GPU", 0) >= 1


def unmet_demand(demand: dict[str, float]) -> str:
    """What no single node of the cluster has as much of as `demand` says; "" where one has all.

    Amounts by Ray's name of the resource.
    """
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    nodes = [node["Resources"] for node in alive]
    if any(all(node.get(name, 0) >= need for name, need in demand.items()) for node in nodes):
        return ""
    return " and ".join(f"{need:g} {name}" for name, need in demand.items() if need)
