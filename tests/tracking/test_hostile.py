"""Hostile names and servers, and stores that are no use: no run is lost, and no stage waits."""

from __future__ import annotations

import http.server
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pipeline.params import parse_params
from pipeline.tracking import sender
from pipeline.tracking.spool import tracking_folder, unsent_runs
from pipeline.tracking.tracker import RunInfo, Tracker, last_error
from pipeline.workflow.shipping import registered_name
from tests.tracking.tracked import QUIET_MLFLOW, NoSender, Store, send_all, tracked

pytestmark = QUIET_MLFLOW

NASTY = {
    "line end": ("two\nlines", "two\nlines"),
    "escape": ("\x1b[2Jred\x00", "\\x1b[2Jred\\x00"),
    "direction": ("\u202egnp.exe", "\\u202egnp.exe"),
    "surrogate": ("\ud800x", "\\ud800x"),
    "markup": ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    "quote": ("it's `x` = 'y'", "it's `x` = 'y'"),
    "empty": ("", ""),
}


@pytest.mark.parametrize(("name", "stored"), NASTY.values(), ids=NASTY)
def test_a_nasty_name_is_logged_with_what_is_not_printable_escaped(
    root: Path, no_sender: NoSender, name: str, stored: str
) -> None:
    experiment = f"e {name}"
    info = RunInfo("a", "run", "b", f"parent {name}", {"who": name}, 1.0, experiment)
    tracker = Tracker(root, info)
    tracker.parameters({"who": name, f"key {name}": 1})
    tracker.tags({"guard": name})
    tracker.tags({"mlflow.note.content": name}, lineage=True)
    tracker.finish()
    send_all(root)
    assert not (tracking_folder(root) / "refused.jsonl").exists()
    runs = Store(root).runs()
    child, parent = runs["run"], runs[f"parent {stored}"]
    assert child.data.params["who"] == stored
    assert len(child.data.params) == 2
    assert (child.data.tags["who"], child.data.tags["guard"]) == (stored, stored)
    assert parent.data.tags["mlflow.note.content"] == stored
    assert Store(root).client.get_experiment_by_name(f"e {stored}") is not None


def test_what_is_too_long_is_cut(root: Path, no_sender: NoSender) -> None:
    long = "ä" * 10_000
    info = RunInfo("a", "run", "b", long, {"who": long}, 1.0, long)
    tracker = Tracker(root, info)
    tracker.parameters({"who": long, "short": 1, long: 2})
    tracker.tags({"guard": long})
    tracker.metrics({long: 0.5})
    tracker.finish()
    send_all(root)
    assert not (tracking_folder(root) / "refused.jsonl").exists()
    runs = Store(root).runs()
    assert f"{'ä' * 249}…" in runs
    child = runs["run"]
    assert child.data.params["who"] == f"{'ä' * 5999}…"
    assert child.data.params["short"] == "1"
    assert len(child.data.params) == 3
    assert child.data.tags["guard"] == f"{'ä' * 7999}…"
    assert list(child.data.metrics.values()) == [0.5]


@pytest.mark.parametrize(
    "name", [stored[0] for stored in NASTY.values()] + ["a/b:c.d%", "x" * 9999]
)
def test_a_registered_model_has_a_plain_name(name: str) -> None:
    params = parse_params(
        {"data": {"source": "digits", "image_size": 16}, "train": {"steps": 1}}, "params.yaml"
    )
    tracking = params.tracking.model_copy(update={"experiment": name})
    registered = registered_name(params.model_copy(update={"tracking": tracking}))
    assert len(registered) <= 250
    assert registered.replace("_", "").replace("-", "").replace(" ", "").isalnum()


def can_not_be_sent(root: Path, uri: str | None = None) -> str:
    """Log a run, which does not wait, and fail to send it; what the user is told of it then."""
    began = time.monotonic()
    with tracked(root, uri=uri) as tracker:
        tracker.metrics({"loss": 1.0})
    assert time.monotonic() - began < 10
    assert sender.run(root, linger_s=0.0) == 1
    assert unsent_runs(root) == 1
    error = last_error(root)
    assert error
    assert error.isprintable()
    assert len(error) <= 500
    return error


def arrives_later(root: Path) -> None:
    with tracked(root, "select@1-cc"):
        pass
    send_all(root)
    assert Store(root).points("train@0", "loss") == [(0, 1.0)]
    assert last_error(root) is None


def test_a_store_of_a_newer_mlflow_is_told_and_left_alone(
    root: Path, store: Path, no_sender: NoSender
) -> None:
    path = root / "newer.db"
    shutil.copyfile(store, path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        database.commit()
    before = path.read_bytes()
    assert "schema" in can_not_be_sent(root, f"sqlite:///{path}")
    assert path.read_bytes() == before
    arrives_later(root)


def test_a_store_that_is_none_is_told(root: Path, no_sender: NoSender) -> None:
    (root / "none.db").write_bytes(b"not a database" * 100)
    assert "not a database" in can_not_be_sent(root, f"sqlite:///{root / 'none.db'}")
    arrives_later(root)


@pytest.mark.parametrize("uri", ["nosuch://host/x", "\x1b[2J", "http://", "http://h:port"])
def test_an_address_that_means_nothing_is_told(root: Path, no_sender: NoSender, uri: str) -> None:
    can_not_be_sent(root, uri)
    arrives_later(root)


@pytest.mark.slow  # SQLite waits for a lock four times
def test_a_store_that_another_process_holds_is_told(root: Path, no_sender: NoSender) -> None:
    with closing(sqlite3.connect(root / "mlflow.db", isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        assert "database is locked" in can_not_be_sent(root)
        database.execute("ROLLBACK")
    arrives_later(root)


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[tuple[str, list[str]]]:
    """A server that answers everything the same, and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b"\xff\x00\x1b[2J\n" * 1000),
        (200, b'{"experiment": 1}'),
        (401, b"<html>"),
        (404, b"{}"),
        (429, b""),
        (500, b"\xff\x00\x1b[2J\n" * 1000),
    ],
)
def test_a_server_that_answers_anything_is_told(
    root: Path, no_sender: NoSender, status: int, body: bytes
) -> None:
    with answering(status, body) as (url, _):
        can_not_be_sent(root, url)
    arrives_later(root)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_nothing_is_sent_where_a_server_points_to(
    root: Path, no_sender: NoSender, status: int
) -> None:
    with (
        answering(200, b"{}") as (elsewhere, asked),
        answering(status, b"", Location=elsewhere) as (url, _),
    ):
        can_not_be_sent(root, url)
        assert asked == []
    arrives_later(root)


def test_a_server_that_never_answers_is_told(
    root: Path, no_sender: NoSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        can_not_be_sent(root, f"http://127.0.0.1:{server.getsockname()[1]}")
    arrives_later(root)
