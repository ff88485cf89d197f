"""Several Ray nodes on this machine, to try out and test what a cluster does when one is lost.

python -m cluster.local [--workers 2]

They are those of Ray's own `Cluster` for tests, each with a loopback address. Linux only: elsewhere
127.0.0.1 is the only one. The nodes demand the user's token (`ray get-auth-token`), since Ray's GCS
and raylets listen on every interface whatever their address.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cluster.connect import first_line
from pipeline.errors import ClusterError, ParameterError
from pipeline.ray.session import LOOPBACK, own_signals, quiet_ray
from pipeline.workflow.command import run_command

OBJECT_STORE = 128 << 20
ATTEMPTS = 3  # Ray gives a node up that is slow to start, as on a busy machine
END_SECONDS = 10.0
TOKEN = {"RAY_AUTH_MODE": "token"}


@dataclass(frozen=True)
class Node:
    """A Ray node: its name, its loopback address, and the processes that it was started as."""

    name: str
    ip: str
    started: list[psutil.Process] = field(repr=False)

    def processes(self) -> list[psutil.Process]:
        """Its living processes."""
        found = list(self.started)
        for process in self.started:
            with suppress(psutil.Error):
                found += process.children(recursive=True)
        return [process for process in found if _is_alive(process)]

    def runs(self, title: str) -> bool:
        """Whether the title of one of its processes matches; Ray's say what they are at work on."""
        for process in self.processes():
            with suppress(psutil.Error):
                if re.search(title, " ".join(process.cmdline())):
                    return True
        return False

    def kill(self) -> None:
        """End all its processes at once, as a loss of its machine would."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(self.started, END_SECONDS)


class LocalCluster:
    """A head and worker nodes: `nodes`, those that were killed among them."""

    def __init__(self, folder: Path, cpus: int, head_cpus: int) -> None:
        self._folder, self._cpus, self._head_cpus = folder, cpus, head_cpus
        self._network = f"127.{secrets.randbelow(200) + 32}.{secrets.randbelow(256)}"
        self._cluster: Any = None
        self.nodes: list[Node] = []

    @property
    def workers(self) -> list[Node]:
        """The nodes but for the head."""
        return self.nodes[1:]

    @property
    def dashboard(self) -> str:
        """The URL of the dashboard and its job server."""
        return f"http://{self._cluster.head_node.webui_url}"

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs in order to connect."""
        return TOKEN | {"RAY_ADDRESS": str(self._cluster.address)}

    def add(self) -> Node:
        """Start one more node, the head first; raises ClusterError if it does not come up."""
        number = len(self.nodes)
        name, ip = f"worker-{number}" if number else "head", f"{self._network}.{number + 1}"
        options: dict[str, Any] = {"num_cpus": self._cpus if number else self._head_cpus}
        options["dashboard_agent_listen_port"] = None  # any: the agent of a head takes jobs there
        if number == 0:
            options |= {"include_dashboard": True, "dashboard_host": "127.0.0.1"}
            options |= {"dashboard_port": None}  # 8265, if free
        problem = ""
        for _ in range(ATTEMPTS):
            others = psutil.Process().children()
            try:
                self._start(node_name=name, node_ip_address=ip, **options)
                problem = ""
            except Exception as error:
                problem = first_line(error)
            started = [each for each in psutil.Process().children() if each not in others]
            node = Node(name, ip, started)
            if not problem:
                self.nodes.append(node)
                return node
            node.kill()
        raise ClusterError(f"Ray's {name} did not start: {problem}")

    def _start(self, **options: Any) -> None:
        """Start a node; raises what Ray does if it does not come up."""
        quiet_ray()
        for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", *LOOPBACK):  # of another cluster
            os.environ.pop(name, None)
        from ray._private.authentication import authentication_token_setup as authentication
        from ray._private.utils import write_ray_address
        from ray.cluster_utils import Cluster

        logging.getLogger("ray").setLevel(logging.ERROR)
        mask = os.umask(0o077)  # Ray makes the token where there is none
        authentication.enable_token_auth_by_default()
        authentication.ensure_token_if_auth_enabled()
        os.umask(mask)
        # Nodes in one folder would unpack a job's repository over each other.
        folder = self._folder / str(len(self.nodes)) / "ray"
        os.environ["RAY_TMPDIR"] = str(folder.parent)
        try:
            if not self.nodes:
                self._cluster = Cluster()
            with own_signals():
                self._cluster.add_node(
                    temp_dir=str(folder), object_store_memory=OBJECT_STORE, **options
                )
            write_ray_address(self.environment["RAY_ADDRESS"], str(folder))  # for jobs
        finally:
            del os.environ["RAY_TMPDIR"]


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


@contextmanager
def local_cluster(workers: int = 2, *, cpus: int = 1, head_cpus: int = 1) -> Iterator[LocalCluster]:
    """A head and so many worker nodes while the block runs, then none of their processes.

    cpus, head_cpus: logical CPUs of each worker and of the head. Raises ClusterError where a node
    does not start.
    """
    if not sys.platform.startswith("linux"):
        raise ClusterError("several nodes on one machine need Linux, for its loopback addresses")
    # A short path: Ray's sockets lie in it, whose names may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="st-", dir="/tmp"))  # nosec B108
    cluster = LocalCluster(folder, cpus, head_cpus)
    try:
        for _ in range(1 + workers):
            cluster.add()
        yield cluster
    finally:
        for node in reversed(cluster.nodes):
            node.kill()
        shutil.rmtree(folder, ignore_errors=True)


def keep_up(options: argparse.Namespace) -> None:
    """Keep a cluster up until Ctrl-C, and say how to use it."""
    if options.workers < 0:
        raise ParameterError(f"--workers {options.workers}: must be at least 0")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), local_cluster(options.workers) as cluster:
        address = cluster.environment["RAY_ADDRESS"]
        print(f"Ray {address}, dashboard and jobs {cluster.dashboard}")
        print(*(f"  {node.name:10} {node.ip}" for node in cluster.nodes), sep="\n")
        print("in another terminal:\n  export", *map("=".join, TOKEN.items()))
        print(f"  selftrain submit --address {cluster.dashboard}   # as a job")
        print(f"  RAY_ADDRESS={address} selftrain run              # from this folder")
        print("Ctrl-C stops every node", flush=True)
        psutil.wait_procs(cluster.nodes[0].started[:1])
        raise ClusterError("Ray's head ended")
    print("stopped", flush=True)


def main() -> int:
    """The exit code: 2 for a wrong parameter, 1 where the head ends by itself."""
    parser = argparse.ArgumentParser(prog="python -m cluster.local", description=keep_up.__doc__)
    parser.add_argument("--workers", type=int, default=2, help="worker nodes (2)")
    return run_command("cluster.local", parser, keep_up)


if __name__ == "__main__":
    sys.exit(main())
