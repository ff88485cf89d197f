"""Keep Ray to errors, and what runs on this machine to itself; before ray is imported."""

from __future__ import annotations

import logging
import os

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_LOG_LEVEL": "ERROR",
}


def quiet_ray() -> None:
    """Set Ray's environment and loggers; what the user has set stays."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name in ("ray", "ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
