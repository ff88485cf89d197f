"""Whatever happens between a stage and the server, nothing is lost and nothing comes twice."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pipeline.tracking import sender
from pipeline.tracking.spool import count_unsent, spool_of, tracking_folder, try_lock
from pipeline.tracking.tracker import drain, last_error, sender_is_running, start_sender
from tests.tracking.conftest import python
from tests.tracking.tracked import QUIET_MLFLOW, NoSender, Store, open_tracker, send_all, tracked

pytestmark = QUIET_MLFLOW


def test_a_spool_that_lost_its_mark_is_sent_again_without_doubles(
    root: Path, no_sender: NoSender
) -> None:
    tracker = open_tracker(root)
    for step in range(5):
        tracker.metrics({"loss": float(step)}, step)
    sending = sender.Sender(root)
    sending.send()
    spool = spool_of(root, "train@0-aa")
    spool.sent.unlink()
    tracker.metrics({"loss": 5.0}, 5)
    sending.send()
    tracker.finish()
    sender.Sender(root).send()
    assert Store(root).points("train@0", "loss") == [(step, float(step)) for step in range(6)]


def test_rows_sent_again_behind_the_mark_are_not_doubled(root: Path, no_sender: NoSender) -> None:
    """As when the sender is killed between the server's answer and its own note of it."""
    tracker = open_tracker(root)
    tracker.metrics({"loss": 0.0}, 0)
    sender.Sender(root).send()
    spool = spool_of(root, "train@0-aa")
    mark = spool.sent.read_text()
    for step in range(1, 5):
        tracker.metrics({"loss": float(step)}, step)
    sender.Sender(root).send()
    spool.sent.write_text(mark)
    tracker.metrics({"loss": 5.0}, 5)
    tracker.finish()
    sender.Sender(root).send()
    assert Store(root).points("train@0", "loss") == [(step, float(step)) for step in range(6)]


def test_an_unreachable_server_is_named_once_and_what_was_logged_arrives_later(
    root: Path, no_sender: NoSender, capsys: pytest.CaptureFixture[str]
) -> None:
    with tracked(root, uri="http://127.0.0.1:9") as tracker:
        for step in range(3):
            tracker.metrics({"loss": float(step)}, step)
    assert sender.run(root, linger_s=0.0) == 1
    with tracked(root, "select@1-cc", uri="http://127.0.0.1:9"):
        pass
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "out of reach" in said
    assert "127.0.0.1" in said
    assert count_unsent(root) == 7
    with tracked(root, "evaluate@0-bb") as tracker:
        tracker.metrics({"test/accuracy": 0.5})
    assert send_all(root) == 0
    assert last_error(root) is None
    store = Store(root)
    assert [step for step, _ in store.points("train@0", "loss")] == [0, 1, 2]
    assert store.points("evaluate@0", "test/accuracy") == [(0, 0.5)]


def test_a_lost_store_gets_a_rerun_whole(root: Path, store: Path, no_sender: NoSender) -> None:
    for _ in range(2):
        with tracked(root) as tracker:
            tracker.metrics({"loss": 1.0})
        send_all(root)
    assert count_unsent(root) == 0
    shutil.copyfile(store, root / "mlflow.db")
    with tracked(root) as tracker:
        tracker.metrics({"loss": 1.0})
    send_all(root)
    assert Store(root).points("train@0", "loss") == [(0, 1.0)]


def test_an_abandoned_run_is_ended_and_its_torn_line_dropped(root: Path) -> None:
    code = (
        "import os, pathlib, pipeline.tracking.tracker as t\n"
        "t.start_sender = lambda root: None\n"
        "info = t.RunInfo('train@0-aa', 'train@0', 'digits-1', 'digits', {}, 1.0)\n"
        f"tracker = t.Tracker(pathlib.Path({str(root)!r}), info)\n"
        "tracker.metrics({'loss': 1.0})\n"
        "os.kill(os.getpid(), 9)"
    )
    with python("-c", code) as process:
        assert process.wait(60) == -signal.SIGKILL
    with spool_of(root, "train@0-aa").events.open("a") as events:
        events.write('{"kind": "metr')
    assert send_all(root) == 0
    store = Store(root)
    assert store.runs()["train@0"].info.status == "KILLED"
    assert store.points("train@0", "loss") == [(0, 1.0)]
    assert count_unsent(root) == 0


@pytest.mark.slow
def test_a_killed_sender_loses_and_doubles_nothing(root: Path, no_sender: NoSender) -> None:
    tracker = open_tracker(root)
    for step in range(3000):
        tracker.metrics({"loss": float(step)}, step)
        if step % 100 == 0:
            tracker.parameters({f"p{step}": step})
    tracker.finish()
    spool = spool_of(root, "train@0-aa")
    command = ("-m", "pipeline.tracking.sender", "--root", str(root), "--linger", "0")
    with python(*command) as first:
        _wait_for(lambda: spool.sent.exists())
        os.kill(first.pid, signal.SIGKILL)
    assert count_unsent(root) > 0
    with python(*command) as other:
        send_all(root)
        assert other.wait(60) == 0
    points = Store(root).points("train@0", "loss")
    assert points == [(step, float(step)) for step in range(3000)]


def test_a_second_sender_leaves_the_work_to_the_first(root: Path, no_sender: NoSender) -> None:
    open_tracker(root).finish()
    with try_lock(tracking_folder(root) / "sender.lock"):
        assert send_all(root) == 0
        assert count_unsent(root) == 2
    assert send_all(root) == 0
    assert count_unsent(root) == 0


@pytest.mark.slow
def test_the_background_sender_sends_and_ends_by_itself(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = partial(start_sender, linger_s=0.2)
    monkeypatch.setattr("pipeline.tracking.tracker.start_sender", brief)
    with tracked(root) as tracker:
        tracker.metrics({"loss": 1.0})
    assert sender_is_running(root) or _wait_for(lambda: sender_is_running(root))
    result = drain(root, 60)
    assert (result.unsent, result.error) == (0, None)
    assert Store(root).points("train@0", "loss") == [(0, 1.0)]
    _wait_for(lambda: not sender_is_running(root), seconds=20)


@pytest.mark.slow
def test_drain_says_what_is_left_and_why(root: Path, no_sender: NoSender) -> None:
    open_tracker(root, uri="http://127.0.0.1:9").finish()
    no_sender()
    start_sender(root, linger_s=0.0)
    result = drain(root, 60)
    assert result.unsent == 2
    assert result.error is not None
    assert "127.0.0.1" in result.error


def test_a_run_begins_when_its_work_did(root: Path, no_sender: NoSender) -> None:
    began = time.time() - 1000
    tracker = open_tracker(root, started=began)
    tracker.finish()
    send_all(root)
    info = Store(root).runs()["train@0"].info
    assert abs(info.start_time - 1000 * began) < 2000
    assert info.end_time - info.start_time > 900_000


def _wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
    return True
