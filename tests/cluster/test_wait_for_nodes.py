"""Waiting for nodes: what is refused, and the limit; test_slurm.py waits for real ones."""

from __future__ import annotations

import pytest

from cluster.wait_for_nodes import main
from tests.cluster.conftest import Head, free_port


@pytest.mark.parametrize(
    "address", ["node-1", ":6379", "node-1:", "node-1:x", "node-1:0", "n:700000"]
)
def test_another_address_is_refused(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--address", address, "--nodes", "1", "--timeout", "0"]) == 2
    assert capsys.readouterr().err.startswith(f"error: --address {address}: not HOST:PORT")


def test_a_head_that_never_listens_is_waited_for_so_long(
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = f"127.0.0.1:{free_port()}"
    assert main(["--address", address, "--nodes", "1", "--timeout", "1"]) == 1
    assert f"no Ray head answers at {address} in 1 s" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.nodes
def test_it_says_how_many_have_joined(
    head: Head, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in head.environment.items():
        monkeypatch.setenv(name, value)
    assert main(["--address", head.gcs, "--nodes", "1"]) == 0
    assert main(["--address", head.gcs, "--nodes", "2", "--timeout", "0"]) == 1
    assert f"--nodes 2: 1 joined {head.gcs} in 0 s" in capsys.readouterr().err
