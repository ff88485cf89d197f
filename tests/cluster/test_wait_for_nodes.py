"""Waiting for nodes: what is refused, and the limit; test_slurm.py waits for real ones."""

from __future__ import annotations

import socket
import time

import pytest

from cluster.wait_for_nodes import main, parse_address, wait_for_head
from pipeline.errors import ClusterError, ParameterError


def test_an_address_is_host_and_port() -> None:
    assert parse_address("node-1:6379") == ("node-1", 6379)


@pytest.mark.parametrize(
    "address", ["node-1", ":6379", "node-1:", "node-1:x", "node-1:0", "n:70000"]
)
def test_another_address_is_refused(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ParameterError, match="not HOST:PORT"):
        parse_address(address)
    assert main(["--address", address, "--nodes", "1", "--timeout", "0"]) == 2
    assert capsys.readouterr().err.startswith(f"error: --address {address}: not HOST:PORT")


def test_a_head_that_listens_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        wait_for_head(f"127.0.0.1:{server.getsockname()[1]}", time.monotonic())


def test_a_head_that_never_listens_is_waited_for_so_long() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(ClusterError, match="no Ray head answers"):
            wait_for_head(address, began + 1.5)
    assert 1.5 <= time.monotonic() - began < 10
