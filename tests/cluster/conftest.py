"""A Ray head with a job server on loopback and token authentication."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.local import LocalCluster, local_cluster


@pytest.fixture(scope="session")
def head() -> Iterator[LocalCluster]:
    """A head of its own, ended with all its processes after the tests."""
    with local_cluster(0, head_cpus=2) as cluster:
        yield cluster
