"""Ray for the length of a block: the cluster at RAY_ADDRESS, one kept, or one started here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.runtime.background import PACKAGE_ROOT
from pipeline.runtime.quiet import is_verbose, muted_stderr, quiet_ray, stay_on_loopback
from pipeline.runtime.ray_kept import kept_ray
from pipeline.runtime.stop import interrupt_on_signals

OBJECT_STORE_BYTES = 256 << 20  # only shard numbers and parameters travel through it
SPARE_CPUS = 1  # for Ray's own tasks: workers that hold every CPU would starve them
IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


@contextmanager
def ray_session(num_cpus: int) -> Iterator[None]:
    """Ray with `num_cpus` CPUs of work.

    The cluster at RAY_ADDRESS; else the one kept for the stages of a `dvc repro`; else one
    started here and then stopped.
    """
    prepare_environment()
    with kept_ray(num_cpus) as kept:
        import ray

        with muted_stderr():
            _connect(kept, num_cpus)
        interrupt_on_signals()  # Ray has set its own
        try:
            yield
        finally:
            ray.shutdown()


def _logging() -> dict[str, Any]:
    """What Ray and its workers show here: errors, or all where the user wants that."""
    return {"log_to_driver": is_verbose(), "logging_level": "INFO" if is_verbose() else "ERROR"}


def _connect(kept: str | None, num_cpus: int) -> None:
    """Connect to Ray; `kept` is the address of the kept instance."""
    import ray

    if os.environ.get("RAY_ADDRESS"):
        ray.init(**_logging(), **_shipped())
        return
    if kept is not None:
        try:
            ray.init(address=kept, **_logging())
            return
        except (ConnectionError, RuntimeError):  # it has just died, or is of another version
            ray.shutdown()
    ray.init(**local_options(num_cpus))


def local_options(num_cpus: int) -> dict[str, Any]:
    """What `ray.init` takes to start Ray on this machine for `num_cpus` CPUs of work."""
    return _logging() | {
        "address": "local",
        "num_cpus": num_cpus + SPARE_CPUS,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
    }


def prepare_environment() -> None:
    """What Ray's processes take from this one's: quiet, local, and where this package is."""
    quiet_ray()
    if not os.environ.get("RAY_ADDRESS"):
        stay_on_loopback()
    paths = [str(PACKAGE_ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


def _shipped() -> dict[str, Any]:
    """The package, for a cluster's nodes; a job has sent the repository already."""
    if IN_A_JOB in os.environ:
        return {}
    package = PACKAGE_ROOT / "pipeline"
    return {"runtime_env": {"py_modules": [str(package)], "excludes": ["__pycache__"]}}


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
