"""Opening MLflow's interface on the right store, or saying why not."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from pipeline.errors import ParameterError
from pipeline.tracking import server


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that the process would have become."""
    commands: list[list[str]] = []
    monkeypatch.setattr("os.execve", lambda _, command, __: commands.append(command))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return commands


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_interface_opens_on_the_local_store(
    tmp_path: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    server.serve(tmp_path, None, port)
    (command,) = started
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert options["--backend-store-uri"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert options["--default-artifact-root"] == f"file://{tmp_path}/mlartifacts"
    assert (options["--host"], options["--workers"]) == ("127.0.0.1", "1")
    assert f"http://127.0.0.1:{port}" in capsys.readouterr().out


def test_a_server_elsewhere_is_named(
    tmp_path: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    server.serve(tmp_path, "https://mlflow.example", 5000)
    assert started == []
    assert "https://mlflow.example" in capsys.readouterr().out


def test_a_port_that_is_taken_is_named(tmp_path: Path, started: list[list[str]]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ParameterError, match=f"--port {port}"):
            server.serve(tmp_path, None, port)
    with pytest.raises(ParameterError, match="--port 70000"):
        server.serve(tmp_path, None, 70000)
    assert started == []


def test_where_the_runs_are_is_said_once_the_server_has_them(
    tmp_path: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    server.note_experiment(tmp_path, "7")
    port = free_port()
    server.serve(tmp_path, None, port)
    server.serve(tmp_path, "https://mlflow.example/", 5000)
    said = capsys.readouterr().out
    assert f"http://127.0.0.1:{port}/#/experiments/7/runs" in said
    assert "https://mlflow.example/#/experiments/7/runs\n" in said
    assert "https://mlflow.example/#/experiments/7/runs?compareRunsMode=CHART\n" in said
    server.serve(tmp_path, "databricks://work", 5000)
    assert capsys.readouterr().out.endswith("ui: databricks://work\n")
