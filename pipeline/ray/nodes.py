"""What the nodes of the connected cluster have: GPUs, room for a worker, sight of a folder."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ClusterError
from pipeline.progress import say
from pipeline.ray.limits import PROBE_SECONDS


def has_gpus() -> bool:
    """Whether the cluster has a GPU."""
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get("GPU", 0) >= 1


def say_if_waiting(title: str, worker: str, demand: dict[str, float]) -> None:
    """Say that `worker` has to wait where no single node has as much as it demands.

    demand: amounts by Ray's name of the resource.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if not any(all(node.get(name, 0) >= need for name, need in demand.items()) for node in nodes):
        needs = " and ".join(f"{need:g} {name}" for name, need in demand.items() if need)
        say(f"{title}: no node has {needs} for {worker}; waiting until the cluster has one")


def check_own_cpu(remedy: str) -> None:
    """Raise ClusterError where this node has no CPU for Ray's tasks, which would wait for ever."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes()}  # type: ignore[no-untyped-call]
    if nodes[here].get("CPU", 0) < 1:
        raise ClusterError(f"{own_address()} has no CPU for Ray, and work can't leave it; {remedy}")


@dataclass(frozen=True)
class SharedFolder:
    """A folder of the driver's that every worker has to see; it travels to them by pickle.

    token: a file in it that no other folder has; remedy: what does where a node can't see it.
    """

    token: Path
    remedy: str

    def check(self, nodes: Sequence[str] = ()) -> None:
        """Raise ClusterError where `nodes`, or this one that may have joined late, can't see it."""
        if not self.token.exists():
            nodes = [own_address()]
        if nodes:
            remedy = f"run from a folder that all nodes see under this name, or {self.remedy}"
            raise ClusterError(blind(nodes, self.token.parent, remedy))


def own_address() -> str:
    """That of this node."""
    import ray

    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return address


def blind(nodes: Sequence[str], path: Path, remedy: str) -> str:
    """What a user reads of nodes that don't see a path."""
    return f"{', '.join(nodes)} can't see {path}; {remedy}"


@contextmanager
def shared_folder(folder: Path, remedy: str) -> Iterator[SharedFolder]:
    """The folder, for the block; raises ClusterError where a node of the cluster can't see it."""
    shared = SharedFolder(folder / f".{secrets.token_hex(8)}", remedy)
    folder.mkdir(parents=True, exist_ok=True)
    shared.token.touch()
    try:
        if os.environ.get("RAY_ADDRESS"):  # else Ray is this machine alone
            shared.check(_blind_nodes(shared.token))
        yield shared
    finally:
        shared.token.unlink(missing_ok=True)


def _blind_nodes(token: Path) -> list[str]:
    """The addresses of the living nodes on which there is no file `token`.

    A node that does not answer in time, or is lost meanwhile, is left out.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probes = {}
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            sees = ray.remote(Path.exists).options(num_cpus=0, scheduling_strategy=there)
            probes[sees.remote(token)] = node["NodeManagerAddress"]
    answered, _ = ray.wait(list(probes), num_returns=len(probes), timeout=PROBE_SECONDS)
    blind = []
    for answer in answered:
        with suppress(ray.exceptions.RayError):
            if not ray.get(answer):
                blind.append(probes[answer])
    return sorted(blind)
