"""Ray's settings in the environment, before it is imported: errors alone, this machine alone."""

from __future__ import annotations

import logging
import os
import sys

VERBOSE = "SELFTRAIN_VERBOSE"
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's default to come, without its warning
    "RAY_worker_niceness": "0",  # a stage waits for its workers; 15 would starve them
}
# Ray listens on 127.0.0.1 alone where it takes itself for one machine, as it does by this variable,
# whose name is of the systems on which that is so without it.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
if sys.platform.startswith("linux"):
    LOOPBACK["GLOO_SOCKET_IFNAME"] = "lo"


def is_verbose() -> bool:
    """Whether the user wants to see what Ray says too: `--verbose`, or SELFTRAIN_VERBOSE=1."""
    return os.environ.get(VERBOSE, "") not in ("", "0")


def quiet_ray() -> None:
    """Set Ray's environment and loggers; what the user has set stays."""
    for name, value in QUIET.items():
        if not (is_verbose() and name.endswith("LOG_LEVEL")):
            os.environ.setdefault(name, value)
    if not is_verbose():
        for name in ("ray", "ray.data", "ray.train", "ray.tune"):
            logging.getLogger(name).setLevel(logging.ERROR)
