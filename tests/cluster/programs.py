"""Run a short Python program as the driver of a cluster, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from cluster.local import LocalCluster

REPOSITORY = Path(__file__).resolve().parents[2]


def start_on(cluster: LocalCluster, *arguments: str) -> subprocess.Popen[str]:
    """Start Python with `arguments` as a driver connected to `cluster`."""
    environment = os.environ | cluster.environment
    environment |= {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer_of(driver: subprocess.Popen[str], seconds: float = 120) -> Any:
    """The JSON value in the last line that a driver prints, once it has ended well."""
    out, err = driver.communicate(timeout=seconds)
    assert driver.returncode == 0, f"{out}\n{err}"
    return json.loads(out.splitlines()[-1])
