"""Several Ray nodes on this machine, to try out and test what a cluster does when one is lost.

Each node has a loopback address, an object store and a temporary folder of its own. Linux only:
elsewhere 127.0.0.1 is the only loopback address. The nodes demand a token, since Ray's GCS and
raylets listen on every interface whatever their address.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from pipeline.errors import ClusterError, ParameterError, SelftrainError
from pipeline.ray.quiet import QUIET

OBJECT_STORE = 128 << 20
DASHBOARD_PORT = 8265  # Ray's own
START_SECONDS, STOP_SECONDS, POLL_SECONDS = 240.0, 10.0, 0.1
ATTEMPTS = 3  # Ray gives a node up that is slow to start, as on a busy machine
STARTED = "This command will now block forever"  # what `ray start --block` says when it is up
PR_SET_PDEATHSIG = 1
# A raylet waits 15 seconds for an agent to say which port it has, and then aborts.
AGENTS = ("dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent", "metrics-export")
ANY = "0.0.0.0"  # nosec B104 # a port is to be free on every interface


@dataclass(frozen=True)
class Node:
    """One Ray node: its loopback address, its `ray start` process and what that writes."""

    name: str
    ip: str
    process: subprocess.Popen[bytes] = field(repr=False)
    log: Path

    @property
    def alive(self) -> bool:
        """Whether its `ray start` still runs."""
        return self.process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """The node's living processes: those of the session that its `ray start` leads."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                zombie = process.status() == psutil.STATUS_ZOMBIE
                if os.getsid(process.pid) == self.process.pid and not zombie:
                    found.append(process)
        return found

    def runs(self, title: str) -> bool:
        """Whether the title of one of its processes matches; Ray's say what they are at work on."""
        for process in self.processes():
            with suppress(psutil.Error):
                if re.search(title, " ".join(process.cmdline())):
                    return True
        return False


class LocalCluster:
    """A head and worker nodes; `environment` is what a program needs in order to connect."""

    def __init__(self, folder: Path, cpus: int, head_cpus: int, dashboard_port: int) -> None:
        self._folder, self._cpus, self._head_cpus = folder, cpus, head_cpus
        self._network = f"127.{secrets.randbelow(200) + 32}.{secrets.randbelow(256)}"
        self._port, self._dashboard_port = _free_port(ANY), _free_port("127.0.0.1", dashboard_port)
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32), encoding="ascii")
        self.token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        self.address = f"{self._network}.1:{self._port}"
        self.environment = self.token | {"RAY_ADDRESS": self.address}
        self.dashboard = f"http://127.0.0.1:{self._dashboard_port}"
        self.nodes: list[Node] = []

    @property
    def workers(self) -> list[Node]:
        """The nodes but for the head, killed ones among them."""
        return self.nodes[1:]

    def add(self) -> Node:
        """Start one more node, the head first; raises ClusterError if it does not come up."""
        number = len(self.nodes)
        name, options = (
            f"worker-{number}",
            [f"--address={self.address}", f"--num-cpus={self._cpus}"],
        )
        if number == 0:
            name = "head"
            options = [
                *("--head", f"--port={self._port}", f"--num-cpus={self._head_cpus}"),
                *("--dashboard-host=127.0.0.1", f"--dashboard-port={self._dashboard_port}"),
                f"--ray-client-server-port={_free_port('127.0.0.1')}",
            ]
        for attempt in range(1, ATTEMPTS + 1):
            node = self._launch(name, number, options)
            self.nodes[number:] = [node]
            try:
                _wait(node)
                break
            except ClusterError:
                self.kill(node)
                if attempt == ATTEMPTS:
                    raise
        return node

    def kill(self, node: Node) -> None:
        """End every process of a node at once, as a loss of its machine would."""
        until = time.monotonic() + STOP_SECONDS
        while living := node.processes():
            for process in living:
                with suppress(psutil.Error):
                    process.kill()
            node.process.poll()
            if time.monotonic() > until:
                raise ClusterError(f"processes of Ray's {node.name} do not end: {living}")
            time.sleep(POLL_SECONDS)
        node.process.wait()

    def _launch(self, name: str, number: int, options: list[str]) -> Node:
        ip, folder = f"{self._network}.{number + 1}", self._folder / str(number)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        ray = Path(sys.executable).with_name("ray")
        own = {key: text for key, text in os.environ.items() if not key.startswith("RAY_")}
        path = os.pathsep.join([str(ray.parent), own.get("PATH", "")])  # a job's python is this one
        command = [
            *(str(ray), "start", "--block", "--disable-usage-stats", f"--temp-dir={folder}"),
            *(f"--node-ip-address={ip}", f"--node-name={name}"),
            f"--object-store-memory={OBJECT_STORE}",
            *(f"--{agent}-port={_free_port(ANY)}" for agent in AGENTS),
            *options,
        ]
        with (folder / "start.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=own | QUIET | self.token | {"PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # by which its processes are found
                preexec_fn=_end_with_parent,
            )
        return Node(name, ip, process, folder / "start.log")


@contextmanager
def local_cluster(
    workers: int = 2, *, cpus: int = 1, head_cpus: int = 1, dashboard_port: int = 0
) -> Iterator[LocalCluster]:
    """A head and so many worker nodes while the block runs, then none of their processes.

    cpus, head_cpus: logical CPUs of each worker and of the head; dashboard_port: of the dashboard
    and its job server, if it is free. Raises ClusterError where a node does not start.
    """
    if not sys.platform.startswith("linux"):
        raise ClusterError("several nodes on one machine need Linux, for its loopback addresses")
    # A short path: Ray's sockets lie in it, whose names may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="st-", dir="/tmp"))  # nosec B108
    cluster = LocalCluster(folder, cpus, head_cpus, dashboard_port)
    try:
        for _ in range(1 + workers):
            cluster.add()
        yield cluster
    finally:
        for node in reversed(cluster.nodes):
            cluster.kill(node)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(node: Node) -> None:
    """Return when the node is up; raises ClusterError with what it last said if it does not."""
    until = time.monotonic() + START_SECONDS
    while STARTED not in (text := node.log.read_text(encoding="utf-8", errors="replace")):
        if not node.alive or time.monotonic() > until:
            raise ClusterError(f"Ray's {node.name} did not start: {' '.join(text.split())[-300:]}")
        time.sleep(POLL_SECONDS)


def _end_with_parent() -> None:
    """Let Linux end this process when the one that started it is gone, killed even."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_port(ip: str, wanted: int = 0) -> int:
    """The port `wanted` where nothing listens on it, else any that is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            probe.bind((ip, wanted))
        except OSError:
            probe.bind((ip, 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> int:
    """Keep a cluster up until Ctrl-C, and say how to use it."""
    parser = argparse.ArgumentParser(prog="python -m cluster.local", description=main.__doc__)
    parser.add_argument("--workers", type=int, default=2, help="worker nodes (2)")
    workers = parser.parse_args().workers
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if workers < 0:
            raise ParameterError(f"--workers {workers}: must be at least 0")
        with local_cluster(workers, dashboard_port=DASHBOARD_PORT) as cluster:
            print(f"Ray {cluster.address}, dashboard and jobs {cluster.dashboard}")
            print(*(f"  {node.name:10} {node.ip}" for node in cluster.nodes), sep="\n")
            print("in another terminal:\n  export", *map("=".join, cluster.token.items()))
            print(f"  python -m cluster.submit --address {cluster.dashboard}   # as a job")
            print(f"  RAY_ADDRESS={cluster.address} dvc repro                  # from this folder")
            print("Ctrl-C stops every node", flush=True)
            cluster.nodes[0].process.wait()
            raise ClusterError("Ray's head ended")
    except SelftrainError as error:
        print(f"cluster.local: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", flush=True)
        return 0


if __name__ == "__main__":
    sys.exit(main())
