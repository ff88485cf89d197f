"""A Ray head with a job server on loopback and token authentication."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

START_SECONDS = 90.0


@dataclass(frozen=True)
class Head:
    """A running head: the address of its job server and the file with its token."""

    address: str
    token_file: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs in its environment."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file)}


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


@pytest.fixture(scope="session")
def head() -> Iterator[Head]:
    """A head of its own, ended with all its processes after the tests."""
    with tempfile.TemporaryDirectory(prefix="st", dir="/tmp") as folder:  # sockets: a short path
        token = Path(folder) / "token"
        token.write_text(secrets.token_hex(32))
        gcs, dashboard, client, agent = free_ports(4)
        found = Head(f"http://127.0.0.1:{dashboard}", token)
        options = {
            "--port": gcs,
            "--node-ip-address": "127.0.0.1",
            "--dashboard-host": "127.0.0.1",
            "--dashboard-port": dashboard,
            "--ray-client-server-port": client,
            "--dashboard-agent-listen-port": agent,
            "--temp-dir": f"{folder}/r",
            "--num-cpus": 2,
            "--object-store-memory": 100 << 20,
        }
        words = [str(word) for pair in options.items() for word in pair]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
        environment = os.environ | found.environment | {"PATH": os.pathsep.join(paths)}
        environment |= {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
        environment.pop("RAY_ADDRESS", None)
        with (Path(folder) / "log").open("w") as log:
            process = subprocess.Popen(
                [*command, *words], env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            _wait_for(found, process, Path(folder) / "log")
            yield found
        finally:
            died = process.poll() is not None
            _end(process)
            if died:
                print(f"the head died:\n{(Path(folder) / 'log').read_text()}")


def _wait_for(head: Head, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    token = head.token_file.read_text()
    request = urllib.request.Request(
        f"{head.address}/api/version", headers={"Authorization": f"Bearer {token}"}
    )
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"the head did not start:\n{log.read_text()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the head with all that it has started: it leads a session of its own."""
    for one in _of_session(process.pid):
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    process.wait(30)


def _of_session(session: int) -> list[int]:
    """The processes of a session that this module has started."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "-s", str(session)], capture_output=True, text=True, check=False
    )
    return [int(word) for word in listed.stdout.split()]
