"""Several Ray nodes on this machine, to try out and test what a cluster does when one is lost.

Each node has a loopback address, an object store and a temporary folder of its own. Linux only:
elsewhere 127.0.0.1 is the only loopback address. The nodes demand a token, since Ray's GCS and
raylets listen on every interface whatever their address.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.errors import ClusterError, SelftrainError
from pipeline.runtime.quiet import QUIET

START_SECONDS = 120.0
ATTEMPTS = 3
PR_SET_PDEATHSIG = 1
STOP_SECONDS = 10.0
POLL_SECONDS = 0.1
STARTED = "This command will now block forever"  # what `ray start --block` says when it is up
OBJECT_STORE_MIB = 128
LOG = "start.log"
AUTHENTICATION = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@dataclass(frozen=True)
class Node:
    """One Ray node: its loopback address, its temporary folder and its `ray start` process."""

    name: str
    ip: str
    folder: Path
    command: list[str] = field(repr=False)
    environment: dict[str, str] = field(repr=False)
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def log(self) -> Path:
        """What its `ray start` wrote."""
        return self.folder / LOG

    @property
    def alive(self) -> bool:
        """Whether its `ray start` still runs."""
        return self.process.poll() is None


@dataclass
class LocalCluster:
    """A head and worker nodes; `environment` is what a program needs in order to connect."""

    head: Node
    workers: list[Node]
    address: str
    dashboard: str
    environment: dict[str, str]
    _options: _Options = field(repr=False)

    def add(self) -> Node:
        """Start one more worker node."""
        node = _started(_start_worker(self._options, len(self.workers) + 1, self.address))
        self.workers.append(node)
        return node

    def kill(self, node: Node) -> None:
        """End a node and every process on it at once, as a loss of its machine would."""
        _end(node, signal.SIGKILL)


@dataclass(frozen=True)
class _Options:
    """What all nodes of one cluster share; `network`: the first three numbers of addresses."""

    folder: Path
    network: str
    environment: dict[str, str]
    cpus: int
    head_cpus: int
    object_store_mib: int


@contextmanager
def local_cluster(
    workers: int = 2,
    *,
    cpus: int = 1,
    head_cpus: int = 1,
    object_store_mib: int = OBJECT_STORE_MIB,
) -> Iterator[LocalCluster]:
    """A head and so many worker nodes while the block runs, then none of their processes.

    cpus, head_cpus: logical CPUs of each worker and of the head; object_store_mib: of each node.
    Raises ClusterError where a node does not start.
    """
    if not sys.platform.startswith("linux"):
        raise ClusterError("several nodes on one machine need Linux, for its loopback addresses")
    with ExitStack() as stack:
        # A short path: Ray's sockets lie in it, whose names may have 107 characters.
        folder = Path(tempfile.mkdtemp(prefix="st-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        network = f"127.{secrets.randbelow(200) + 32}.{secrets.randbelow(256)}"
        environment = _environment(folder)
        options = _Options(folder, network, environment, cpus, head_cpus, object_store_mib)
        port, dashboard = _free_port(f"{network}.1"), _free_port("127.0.0.1")
        head = _started(_start_head(options, port, dashboard))
        stack.callback(_end, head, signal.SIGTERM)
        address = f"{head.ip}:{port}"
        connect = {key: value for key, value in environment.items() if key in AUTHENTICATION}
        cluster = LocalCluster(
            head,
            [],
            address,
            f"http://127.0.0.1:{dashboard}",
            connect | {"RAY_ADDRESS": address},
            options,
        )
        stack.callback(_end_all, cluster.workers)
        for number in range(1, workers + 1):
            cluster.workers.append(_start_worker(options, number, address))
        for place, node in enumerate(cluster.workers):
            cluster.workers[place] = _started(node)
        yield cluster


def _environment(folder: Path) -> dict[str, str]:
    """The nodes' environment: quiet, with a token made for this cluster in a private file."""
    token = folder / "token"
    descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return kept | QUIET | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


def _start_head(options: _Options, port: int, dashboard: int) -> Node:
    return _start(
        options,
        "head",
        f"{options.network}.1",
        [
            *("--head", f"--port={port}", f"--num-cpus={options.head_cpus}"),
            *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
            f"--ray-client-server-port={_free_port('127.0.0.1')}",
        ],
    )


def _start_worker(options: _Options, number: int, address: str) -> Node:
    return _start(
        options,
        f"worker-{number}",
        f"{options.network}.{number + 1}",
        [f"--address={address}", f"--num-cpus={options.cpus}"],
    )


def _start(options: _Options, name: str, ip: str, arguments: list[str]) -> Node:
    folder = options.folder / name.replace("worker-", "w")
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
        *(f"--node-ip-address={ip}", f"--node-name={name}", f"--temp-dir={folder}"),
        f"--object-store-memory={options.object_store_mib << 20}",
        f"--dashboard-agent-listen-port={_free_port(ip)}",
        *arguments,
    ]
    return Node(
        name,
        ip,
        folder,
        command,
        options.environment,
        _launch(command, folder, options.environment),
    )


def _launch(
    command: list[str], folder: Path, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """A `ray start` of its own session, in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with (folder / LOG).open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # by which its processes are found
            preexec_fn=_end_with_parent,
        )


def _started(node: Node) -> Node:
    """The node once it is up, started again where Ray gave up: it does after 30 busy seconds."""
    for attempt in range(ATTEMPTS):
        try:
            _wait(node)
            break
        except BaseException as error:
            _end(node, signal.SIGKILL)
            if not isinstance(error, ClusterError) or attempt + 1 == ATTEMPTS:
                raise
            node = replace(node, process=_launch(node.command, node.folder, node.environment))
    return node


def _end_with_parent() -> None:
    """Let Linux end this process when the one that started it is gone, killed even."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(node: Node) -> None:
    """Return when the node is up; raises ClusterError with what it last said if it does not."""
    until = time.monotonic() + START_SECONDS
    while STARTED not in node.log.read_text(encoding="utf-8", errors="replace"):
        if not node.alive or time.monotonic() > until:
            text = node.log.read_text(encoding="utf-8", errors="replace")
            raise ClusterError(f"Ray's {node.name} did not start: {' '.join(text.split())[-300:]}")
        time.sleep(POLL_SECONDS)


def _end_all(nodes: list[Node]) -> None:
    for node in nodes:
        _end(node, signal.SIGKILL)


def _end(node: Node, how: signal.Signals) -> None:
    """Signal every process of the node's session, then kill what is left of it."""
    until = time.monotonic() + STOP_SECONDS
    while left := _session(node.process.pid):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, how)
        node.process.poll()
        if time.monotonic() > until - STOP_SECONDS / 2:
            how = signal.SIGKILL
        if time.monotonic() > until:
            raise ClusterError(f"processes {left} of Ray's {node.name} do not end")
        time.sleep(POLL_SECONDS)
    node.process.wait()


def _session(leader: int) -> list[int]:
    """The living processes of the session that `leader` leads."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError, ValueError):
            # "pid (command) state ppid pgrp session …"; a command may hold spaces and brackets.
            state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state not in "ZX":
                found.append(int(entry.name))
    return found


def _free_port(ip: str) -> int:
    with socket.socket() as probe:
        probe.bind((ip, 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Keep a cluster up until Ctrl-C, and say how to use it."""
    parser = argparse.ArgumentParser(prog="python -m cluster.local", description=main.__doc__)
    parser.add_argument("--workers", type=_at_least(0), default=2, help="worker nodes (2)")
    parser.add_argument("--cpus", type=_at_least(1), default=1, help="CPUs of each worker (1)")
    parser.add_argument("--head-cpus", type=_at_least(0), default=1, help="CPUs of the head (1)")
    wanted = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with local_cluster(wanted.workers, cpus=wanted.cpus, head_cpus=wanted.head_cpus) as cluster:
            print(_how_to_use(cluster), flush=True)
            while cluster.head.alive:
                time.sleep(1)
            raise ClusterError(f"Ray's head ended: see {cluster.head.log}")
    except SelftrainError as error:
        print(f"cluster.local: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped", flush=True)


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: at least {least}")
        return int(text)

    return number


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _how_to_use(cluster: LocalCluster) -> str:
    nodes = [f"  {node.name:10} {node.ip}" for node in (cluster.head, *cluster.workers)]
    token = {key: value for key, value in cluster.environment.items() if key in AUTHENTICATION}
    export = " ".join(f"{key}={value}" for key, value in token.items())
    return "\n".join(
        [
            f"Ray {cluster.address}, dashboard and jobs {cluster.dashboard}",
            *nodes,
            "in another terminal:",
            f"  export {export}",
            f"  python -m cluster.submit --address {cluster.dashboard}   # as a job",
            f"  RAY_ADDRESS={cluster.address} dvc repro                  # from this folder",
            "Ctrl-C stops every node",
        ]
    )


if __name__ == "__main__":
    main()
