"""Ray's settings: quiet unless the user wants to see it all, and his own come first."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import psutil
import pytest

from benchmarks.runs import ROOT
from pipeline.errors import ClusterError, ParameterError
from pipeline.ray.session import QUIET, VERBOSE, quiet_ray, ray_session
from tests.integration.by_hand import left_of


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


@pytest.mark.parametrize(
    "address",
    [
        "garbage",
        "head:",
        ":6379",
        "head:port",
        "http://head:8265",
        "head:6379/x",
        "a\nb:1",
        "x" * 9999,
    ],
)
def test_an_address_of_another_form_is_refused(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ParameterError, match=r"^RAY_ADDRESS = '.*must be HOST:PORT") as error:
        ray_session(1, "stage").__enter__()
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("address", ["http://me:hunter2@head:1", "ray://me:hunter2@head:1"])
def test_an_address_with_credentials_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ParameterError, match="RAY_ADDRESS") as error:
        ray_session(1, "stage").__enter__()
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("form", ["{}", "ray://{}"])
def test_an_address_where_nothing_listens_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for address in (f"127.0.0.1:{port}", "127.0.0.1:99999", "nosuch.invalid:1"):
        monkeypatch.setenv("RAY_ADDRESS", form.format(address))
        with pytest.raises(ClusterError, match="nothing answers there"):
            ray_session(1, "stage").__enter__()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_killed_process_of_rays_own_ends_the_stage_in_one_line(name: str) -> None:
    program = f"""
import sys, time, psutil
from pipeline.ray.session import ray_session
from pipeline.workflow.command import exit_code

def work():
    with ray_session(1, "embed"):
        found = psutil.Process().children(recursive=True)
        print(*(process.pid for process in found), flush=True)
        next(process for process in found if process.name() == "{name}").kill()
        time.sleep(200)

sys.exit(exit_code("embed", work, ""))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    told = f"embed: Ray's process {name} was killed, as for want of memory; the same command goes"
    assert [line for line in ended.stderr.splitlines() if line.startswith("embed")] == [
        f"{told} on from here"
    ]
    pids = [
        int(pid) for pid in ended.stdout.splitlines()[-1].split() if psutil.pid_exists(int(pid))
    ]
    assert left_of([psutil.Process(pid) for pid in pids]) == []
