"""Keep Ray to errors, and what runs on this machine to itself; before ray is imported."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

VERBOSE = "SELFTRAIN_VERBOSE"
LEVELS = ("RAY_BACKEND_LOG_LEVEL", "RAY_DATA_LOG_LEVEL")
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS": "1",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_task_retry_delay_ms": "1000",  # until a node counts as lost, each try fails at once
    "RAY_worker_niceness": "0",  # a stage waits for its workers; 15 would starve them
}

# Ray listens on 127.0.0.1 alone where it takes itself for one machine, as it does by this variable,
# whose name is of the systems on which that is so without it.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
if sys.platform.startswith("linux"):
    LOOPBACK["GLOO_SOCKET_IFNAME"] = "lo"


def stay_on_loopback() -> None:
    """Keep what this process starts of Ray, and its workers, to this machine's own interface."""
    for name, value in LOOPBACK.items():
        os.environ.setdefault(name, value)


def is_verbose() -> bool:
    """Whether the user wants to see what Ray says too: `--verbose`, or SELFTRAIN_VERBOSE=1."""
    return os.environ.get(VERBOSE, "") not in ("", "0")


def quiet_ray() -> None:
    """Set Ray's environment and loggers; what the user has set stays."""
    for name, value in QUIET.items():
        if not (is_verbose() and name in LEVELS):
            os.environ.setdefault(name, value)
    if is_verbose():
        return
    for name in ("ray", "ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def muted_stderr() -> Iterator[None]:
    """Hold back what the block writes to file descriptor 2, and show it only if the block fails.

    Ray's core announces its log level there before it heeds it. Nothing is held back where the user
    wants to see it all.
    """
    if is_verbose():
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
