"""Whatever happens between a stage and the server, nothing is lost and nothing comes twice."""

from __future__ import annotations

import os
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from pipeline.tracking import sender
from pipeline.tracking.spool import (
    EVENTS,
    all_spools,
    is_locked,
    tracking_folder,
    try_lock,
    unsent_runs,
)
from pipeline.tracking.tracker import drain, last_error, start_sender
from tests.tracking.conftest import python
from tests.tracking.tracked import QUIET_MLFLOW, NoSender, Store, open_tracker, send_all, tracked

pytestmark = QUIET_MLFLOW
NOBODY = "http://127.0.0.1:9"


def test_what_comes_while_a_run_goes_on_is_sent_once_by_whichever_sender(
    root: Path, no_sender: NoSender
) -> None:
    tracker, sending = open_tracker(root), sender.Sender(root)
    for step in range(6):
        tracker.metrics({"loss": float(step)}, step)
        if step == 3:
            sending = sender.Sender(root)  # the first was killed: all is sent again
        assert sending.send()
        assert Store(root).points("train@0", "loss")[-1][0] == step
    assert Store(root).runs()["train@0"].info.status == "RUNNING"
    tracker.finish()
    send_all(root)
    assert Store(root).points("train@0", "loss") == [(step, float(step)) for step in range(6)]
    assert all_spools(root) == []


def test_an_unreachable_server_is_named_once_and_what_was_logged_arrives_later(
    root: Path, no_sender: NoSender, capsys: pytest.CaptureFixture[str]
) -> None:
    with tracked(root, uri=NOBODY) as tracker:
        for step in range(3):
            tracker.metrics({"loss": float(step)}, step)
    assert sender.run(root, linger_s=0.0) == 1
    with tracked(root, "select@1-cc", uri=NOBODY):
        pass
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "out of reach" in said
    assert "127.0.0.1" in said
    assert unsent_runs(root) == 2
    with tracked(root, "evaluate@0-bb") as tracker:
        tracker.metrics({"test/accuracy": 0.5})
    send_all(root)
    assert last_error(root) is None
    store = Store(root)
    assert [step for step, _ in store.points("train@0", "loss")] == [0, 1, 2]
    assert store.points("evaluate@0", "test/accuracy") == [(0, 0.5)]


def test_one_run_that_can_not_be_sent_does_not_hold_up_the_others(
    root: Path, no_sender: NoSender
) -> None:
    with tracked(root, "train@0-aa"):
        pass
    (broken,) = all_spools(root)
    with (broken / EVENTS).open("a") as events:
        events.write("no event\n")
    with tracked(root, "train@1-bb") as tracker:
        tracker.metrics({"loss": 1.0})
    assert sender.run(root, linger_s=0.0) == 1
    assert Store(root).points("train@1", "loss") == [(0, 1.0)]
    assert all_spools(root) == [broken]


def test_a_lost_store_gets_a_rerun_whole(root: Path, store: Path, no_sender: NoSender) -> None:
    for _ in range(2):
        with tracked(root) as tracker:
            tracker.metrics({"loss": 1.0})
        send_all(root)
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
    with (all_spools(root)[0] / EVENTS).open("a") as events:
        events.write('{"kind": "metr')
    send_all(root)
    store = Store(root)
    assert store.runs()["train@0"].info.status == "KILLED"
    assert store.points("train@0", "loss") == [(0, 1.0)]
    assert all_spools(root) == []


@pytest.mark.slow
def test_a_killed_sender_loses_and_doubles_nothing(root: Path, no_sender: NoSender) -> None:
    with tracked(root) as tracker:
        for step in range(3000):
            tracker.metrics({"loss": float(step)}, step)
            if step % 100 == 0:
                tracker.parameters({f"p{step}": step})
    command = ("-m", "pipeline.tracking.sender", str(root), "0")
    with python(*command) as first:
        while "train@0" not in (runs := Store(root).runs()) or not runs["train@0"].data.params:
            assert first.poll() is None
        os.kill(first.pid, signal.SIGKILL)
    assert unsent_runs(root) == 1
    with python(*command) as other:
        assert other.wait(60) == 0
    points = Store(root).points("train@0", "loss")
    assert points == [(step, float(step)) for step in range(3000)]


def test_a_second_sender_leaves_the_work_to_the_first(root: Path, no_sender: NoSender) -> None:
    open_tracker(root).finish()
    with try_lock(tracking_folder(root) / "sender.lock"):
        send_all(root)
        assert unsent_runs(root) == 1
    send_all(root)
    assert unsent_runs(root) == 0


@pytest.mark.slow
def test_the_background_sender_sends_and_ends_by_itself(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = partial(start_sender, linger_s=0.2)
    monkeypatch.setattr("pipeline.tracking.tracker.start_sender", brief)
    with tracked(root) as tracker:
        tracker.metrics({"loss": 1.0})
    assert drain(root, 60) == 0
    assert last_error(root) is None
    assert Store(root).points("train@0", "loss") == [(0, 1.0)]
    deadline = time.monotonic() + 20
    while is_locked(tracking_folder(root) / "sender.lock"):
        assert time.monotonic() < deadline, "it did not end"
        time.sleep(0.05)


@pytest.mark.slow
def test_drain_says_what_is_left(root: Path, no_sender: NoSender) -> None:
    open_tracker(root, uri=NOBODY).finish()
    no_sender()
    assert drain(root, 60) == 1
    error = last_error(root)
    assert error is not None
    assert "127.0.0.1" in error


def test_a_run_begins_when_its_work_did(root: Path, no_sender: NoSender) -> None:
    began = time.time() - 1000
    tracker = open_tracker(root, started=began)
    tracker.finish()
    send_all(root)
    info = Store(root).runs()["train@0"].info
    assert abs(info.start_time - 1000 * began) < 2000
    assert info.end_time - info.start_time > 900_000
