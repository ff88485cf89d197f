"""A cluster that can't be used is refused in one line: real servers, real tokens, real versions."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.connect import open_client
from cluster.local import LocalCluster
from pipeline.errors import ClusterError, ParameterError

ROOT = Path(__file__).parents[2]


@contextmanager
def listening(answer: bytes | None) -> Iterator[str]:
    """A server on loopback that answers each GET with `answer`, or never."""
    if answer is None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        return
    content = answer

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http_server.server_port}"
        http_server.shutdown()
        thread.join()


@pytest.mark.parametrize("address", ["head:8265", "ray://head:10001"])
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(ParameterError, match=r"--address .*: must be the URL"):
        open_client(address)


@pytest.mark.parametrize("address", ["http://", "http://h:port"])
def test_an_address_without_a_server_is_refused(address: str) -> None:
    with pytest.raises(ClusterError, match="does not answer"):
        open_client(address)


def test_a_port_where_nothing_listens_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ClusterError, match=f"127.0.0.1:{port} does not answer"):
        open_client(f"http://127.0.0.1:{port}")


def test_a_server_that_accepts_and_says_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cluster.connect.ANSWER_SECONDS", 0.3)
    with listening(None) as address, pytest.raises(ClusterError, match="does not answer"):
        open_client(address)


@pytest.mark.parametrize("answer", [b"<html>", b"[]"])
def test_a_server_of_another_kind_is_refused(answer: bytes) -> None:
    with listening(answer) as address, pytest.raises(ClusterError, match="not Ray's job server"):
        open_client(address)


@pytest.mark.slow
@pytest.mark.nodes
@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"HOME": "/nonexistent"}, "Missing authentication token"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64}, "Invalid authentication token"),
    ],
)
def test_a_token_that_is_missing_or_wrong_is_refused(
    head: LocalCluster, environment: dict[str, str], word: str
) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    code = (
        "import sys\nfrom cluster.connect import open_client\n"
        "from pipeline.errors import ParameterError\n"
        f"try: open_client('{head.dashboard}')\nexcept ParameterError as error: print(error)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert word in answer.stdout
    assert "RAY_AUTH_TOKEN_PATH" in answer.stdout


@pytest.mark.slow
@pytest.mark.nodes
@pytest.mark.parametrize(
    ("environment", "refused"),
    [
        ({}, False),
        ({"RAY_AUTH_MODE": "disabled"}, True),
        ({"HOME": "/nonexistent"}, True),
        ({"RAY_AUTH_TOKEN": "a" * 64}, True),
        ({"RAY_AUTH_TOKEN_PATH": "/nonexistent"}, True),
    ],
)
def test_a_stage_without_the_token_is_refused_in_one_line(
    head: LocalCluster, environment: dict[str, str], refused: bool
) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    code = (
        "import sys\nfrom pipeline.ray.session import ray_session\n"
        "from pipeline.workflow.command import exit_code\n"
        "sys.exit(exit_code('stage', lambda: ray_session(1, 'stage').__enter__(), ''))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean | head.environment | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == (2 if refused else 0), answer.stderr
    if refused:
        (line,) = answer.stderr.splitlines()
        address = head.environment["RAY_ADDRESS"]
        assert line.startswith(
            f"stage: {address}: the token is missing or wrong; set RAY_AUTH_MODE"
        )
        assert "RAY_AUTH_TOKEN" in line
