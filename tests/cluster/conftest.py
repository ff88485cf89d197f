"""A Ray head with a job server on loopback and token authentication."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.local import local_cluster


@dataclass(frozen=True)
class Head:
    """A running head: the addresses of its job server and GCS, the file with its token."""

    address: str
    gcs: str
    token_file: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs in its environment."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file)}


@pytest.fixture(scope="session")
def head() -> Iterator[Head]:
    """A head of its own, ended with all its processes after the tests."""
    with local_cluster(0, head_cpus=2) as cluster:
        token = Path(cluster.token["RAY_AUTH_TOKEN_PATH"])
        yield Head(cluster.dashboard, cluster.address, token)


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
