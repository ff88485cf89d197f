"""Ray's settings: quiet unless the user wants to see it all, and his own come first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.runs import ROOT
from pipeline.ray.session import QUIET, VERBOSE, quiet_ray


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*QUIET, VERBOSE):
        monkeypatch.setenv(name, "as it was")  # so that it is restored
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("verbose", "level"), [("1", None), ("0", "fatal"), ("", "fatal")])
def test_who_wants_to_see_it_all_does(
    monkeypatch: pytest.MonkeyPatch, verbose: str, level: str | None
) -> None:
    monkeypatch.setenv(VERBOSE, verbose)
    quiet_ray()
    assert os.environ.get("RAY_BACKEND_LOG_LEVEL") == level
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_BACKEND_LOG_LEVEL", "debug")
    quiet_ray()
    assert os.environ["RAY_BACKEND_LOG_LEVEL"] == "debug"


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ("-n 60", "ulimit -n is 60, and Ray needs 144 for 2 CPUs; raise it"),
        ("-f 8", "ulimit -f is 8, and Ray needs 262144 for 2 CPUs"),
        ("-v 7000000", "ulimit -v is 7000000, and Ray needs 8388608 for 2 CPUs"),
        ("-Sn 60", ""),
    ],
)
def test_a_limit_under_which_ray_would_break_is_told_or_raised(limit: str, told: str) -> None:
    program = "from pipeline.ray.session import check_limits; check_limits(2)"
    ended = subprocess.run(
        ["bash", "-c", f"ulimit {limit} && exec {sys.executable} -c '{program}'"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told in ended.stderr
    assert (ended.returncode == 0) == (not told)
