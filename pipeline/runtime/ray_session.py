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
    with muted_stderr():
        ray.init(**options)
    try:
        yield
    finally:
        ray.shutdown()
