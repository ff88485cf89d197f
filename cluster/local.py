"""Several Ray nodes on this machine, to try out and test what a cluster does when one is lost.

Each node has a loopback address, an object store and a temporary folder of its own. Linux only:
elsewhere 127.0.0.1 is the only loopback address. The nodes demand a token, since Ray's GCS and
raylets listen on every interface whatever their address.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cluster.node import Node, end, launch, titles, when_started
from pipeline.errors import ClusterError, SelftrainError
from pipeline.ray.quiet import QUIET

OBJECT_STORE_MIB = 128
RAY_START = Path(__file__).with_name("ray_start.py")
DASHBOARD_PORT = 8265  # Ray's own
ACTOR_CALL = ")."  # Ray's title of a process: ray::Class(…).method while it is called
AGENTS = (
    "dashboard-agent-listen",
    "dashboard-agent-grpc",
    "runtime-env-agent",
    "metrics-export",
)
ANY = "0.0.0.0"  # nosec B104 # a port is to be free on every interface
AUTHENTICATION = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


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
        node = when_started(_start_worker(self._options, len(self.workers) + 1, self.address))
        self.workers.append(node)
        return node

    def kill(self, node: Node) -> None:
        """End a node and every process on it at once, as a loss of its machine would."""
        end(node, signal.SIGKILL)

    def living_workers(self) -> list[Node]:
        """The worker nodes that have not been killed."""
        return [node for node in self.workers if node.alive]

    def runs(self, node: Node, actor: str, *, busy: bool = False) -> bool:
        """Whether the node has an actor whose class's name holds `actor`; busy: at a call."""
        return any(
            title.startswith("ray::") and actor in title and (not busy or ACTOR_CALL in title)
            for title in titles(node)
        )


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
    dashboard_port: int = 0,
) -> Iterator[LocalCluster]:
    """A head and so many worker nodes while the block runs, then none of their processes.

    cpus, head_cpus: logical CPUs of each worker and of the head; object_store_mib: of each node;
    dashboard_port: of the dashboard and its job server, if it is free.
    Raises ClusterError where a node does not start.
    """
    if not sys.platform.startswith("linux"):
        raise ClusterError("several nodes on one machine need Linux, for its loopback addresses")
    with ExitStack() as stack:
        # A short path: Ray's sockets lie in it, whose names may have 107 characters.
        folder = Path(tempfile.mkdtemp(prefix="st-", dir="/tmp"))  # nosec B108
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        network = f"127.{secrets.randbelow(200) + 32}.{secrets.randbelow(256)}"
        environment = _environment(folder)
        options = _Options(folder, network, environment, cpus, head_cpus, object_store_mib)
        port, dashboard = _free_port(f"{network}.1"), _free_port("127.0.0.1", dashboard_port)
        head = when_started(_start_head(options, port, dashboard))
        stack.callback(end, head, signal.SIGTERM)
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
            cluster.workers[place] = when_started(node)
        yield cluster


def _environment(folder: Path) -> dict[str, str]:
    """The nodes' environment: quiet, with a token made for this cluster in a private file."""
    token = folder / "token"
    descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    paths = [str(Path(sys.executable).parent), kept.get("PATH", "")]  # a job's python is this one
    kept["PATH"] = os.pathsep.join(filter(None, paths))
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
        *(sys.executable, "-P", str(RAY_START), "start", "--block", "--disable-usage-stats"),
        *(f"--node-ip-address={ip}", f"--node-name={name}", f"--temp-dir={folder}"),
        f"--object-store-memory={options.object_store_mib << 20}",
        # For an agent whose port it is not told Ray's raylet waits, 15 seconds, and then aborts.
        *(f"--{agent}-port={_free_port(ANY)}" for agent in AGENTS),
        *arguments,
    ]
    return Node(
        name,
        ip,
        folder,
        command,
        options.environment,
        launch(command, folder, options.environment),
    )


def _end_all(nodes: list[Node]) -> None:
    for node in nodes:
        end(node, signal.SIGKILL)


def _free_port(ip: str, wanted: int = 0) -> int:
    """The port `wanted` where nothing listens on it, else any that is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            probe.bind((ip, wanted))
        except OSError:
            if not wanted:
                raise
            return _free_port(ip)
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
        with local_cluster(
            wanted.workers,
            cpus=wanted.cpus,
            head_cpus=wanted.head_cpus,
            dashboard_port=DASHBOARD_PORT,
        ) as cluster:
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
