"""Ray for the length of a block: the cluster at RAY_ADDRESS, or an instance started here.

python -m pipeline.ray.session    keeps an instance up until Ctrl-C (`make ray`)
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.ray.quiet import LOOPBACK, is_verbose, quiet_ray

PACKAGE = Path(__file__).resolve().parents[1]
OBJECT_STORE_BYTES = 256 << 20  # only shard numbers and parameters travel through it
SPARE_CPUS = 1  # for Ray's own tasks: workers that hold every CPU would starve them
IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
PORT = 6379


@contextmanager
def ray_session(num_cpus: int) -> Iterator[None]:
    """Ray with `num_cpus` CPUs of work: the cluster at RAY_ADDRESS, else one started here."""
    prepare_environment()
    import ray

    options = {
        "address": "local",
        "num_cpus": num_cpus + SPARE_CPUS,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
    }
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ray.init(
        log_to_driver=is_verbose(),
        logging_level=logging.INFO if is_verbose() else logging.ERROR,
        **(_for_nodes() if os.environ.get("RAY_ADDRESS") else options),
    )
    for number, handler in handlers.items():  # Ray has set its own
        signal.signal(number, handler)
    try:
        yield
    finally:
        ray.shutdown()


def prepare_environment() -> None:
    """What Ray's processes take from this one's: quiet, local, and where this package is."""
    quiet_ray()
    if not os.environ.get("RAY_ADDRESS"):
        for name, value in LOOPBACK.items():
            os.environ.setdefault(name, value)
    paths = [str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


def _for_nodes() -> dict[str, Any]:
    """The package, for a cluster's nodes; a job has sent the repository already."""
    if IN_A_JOB in os.environ:
        return {}
    return {"runtime_env": {"py_modules": [str(PACKAGE)], "excludes": ["__pycache__"]}}


def start() -> None:
    """Become `ray start` on this machine's own interface, and say how stages join it."""
    os.environ.pop("RAY_ADDRESS", None)
    prepare_environment()
    os.environ["RAY_AUTH_MODE"] = "token"
    print(f"export RAY_ADDRESS=127.0.0.1:{PORT} RAY_AUTH_MODE=token", flush=True)
    arguments = ["--head", "--block", f"--port={PORT}", "--include-dashboard=false"]
    os.execv(
        sys.executable,
        [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", *arguments],
    )


if __name__ == "__main__":
    start()
