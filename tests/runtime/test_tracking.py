"""What a stage logs reaches MLflow once, whatever happens in between; with a real sqlite store."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline.errors import BusyError
from pipeline.files import write_json
from pipeline.runtime import tracking_sender
from pipeline.runtime.tracking import (
    Tracker,
    count_unsent,
    drain,
    last_error,
    sender_is_running,
    start_sender,
    tracking_uri,
)
from pipeline.runtime.tracking_spool import Spool, all_spools, spool_of, tracking_folder, try_lock
from tests.runtime.conftest import python

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*[Tt]ype hint:UserWarning"),
]

NoSender = Callable[[], None]


def open_tracker(root: Path, run_key: str = "train@0-aa", uri: str | None = None) -> Tracker:
    return Tracker(
        root,
        run_key=run_key,
        name=run_key.split("-")[0],
        lineage_key="digits-1",
        lineage_name="digits",
        tags={"commit": "c0ffee"},
        uri=uri,
    )


def send_all(root: Path) -> int:
    """Send in this process: MLflow is imported once for all tests."""
    code = tracking_sender.run(root, linger_s=0.0)
    assert code == 0, last_error(root)
    return code


class Store:
    """What a repository's store holds, read with MLflow's own client."""

    def __init__(self, root: Path) -> None:
        self.client: Any = MlflowClient(tracking_uri(root, None))

    def runs(self) -> dict[str, Any]:
        ids = [each.experiment_id for each in self.client.search_experiments()]
        return {run.info.run_name: run for run in self.client.search_runs(ids)}

    def points(self, name: str, metric: str) -> list[tuple[int, float]]:
        run_id = self.runs()[name].info.run_id
        history = self.client.get_metric_history(run_id, metric)
        return sorted((point.step, point.value) for point in history)

    def artifact(self, name: str, path: str, folder: Path) -> str:
        run_id = self.runs()[name].info.run_id
        return Path(self.client.download_artifacts(run_id, path, str(folder))).read_text()


def test_everything_logged_arrives_in_a_run_under_its_lineage(
    root: Path, no_sender: NoSender
) -> None:
    report = root / "report.json"
    report.write_text("first")
    with open_tracker(root) as tracker:
        tracker.parameters({"steps": 10, "name": "resnet_small"})
        for step in range(10):
            tracker.metrics({"loss": 1 / (step + 1), "rate": 0.1}, step)
        tracker.artifact(report, "reports")
        report.write_text("later")
        tracker.tags({"mlflow.note.content": "**digits**"}, lineage=True)
    assert send_all(root) == 0
    store = Store(root)
    child, parent = store.runs()["train@0"], store.runs()["digits"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["commit"] == "c0ffee"
    assert child.data.params == {"steps": "10", "name": "resnet_small"}
    assert store.points("train@0", "loss") == [(s, 1 / (s + 1)) for s in range(10)]
    assert store.artifact("train@0", "reports/report.json", root) == "first"
    assert parent.data.tags["mlflow.note.content"] == "**digits**"
    assert (child.info.status, parent.info.status) == ("FINISHED", "FINISHED")


def test_stages_of_one_lineage_share_the_parent(root: Path, no_sender: NoSender) -> None:
    for key in ("train@0-aa", "train@1-bb"):
        with open_tracker(root, key) as tracker:
            tracker.metrics({"test/accuracy": 0.5})
        send_all(root)
    runs = Store(root).runs()
    assert sorted(runs) == ["digits", "train@0", "train@1"]
    parents = {runs[name].data.tags["mlflow.parentRunId"] for name in ("train@0", "train@1")}
    assert parents == {runs["digits"].info.run_id}


@pytest.mark.parametrize("sent_between", [True, False])
def test_a_resumed_run_doubles_no_step(root: Path, no_sender: NoSender, sent_between: bool) -> None:
    first = open_tracker(root)
    first.parameters({"steps": 8})
    for step in range(5):
        first.metrics({"loss": float(step)}, step)
    first.finish("KILLED")
    if sent_between:
        send_all(root)
        assert Store(root).runs()["train@0"].info.status == "KILLED"
    with open_tracker(root) as again:
        again.parameters({"steps": 8})
        for step in range(3, 8):
            again.metrics({"loss": float(step)}, step)
    send_all(root)
    store = Store(root)
    assert store.points("train@0", "loss") == [(step, float(step)) for step in range(8)]
    assert sorted(store.runs()) == ["digits", "train@0"]
    assert store.runs()["train@0"].info.status == "FINISHED"


def test_a_finished_run_that_is_run_again_logs_nothing_twice(
    root: Path, no_sender: NoSender
) -> None:
    table = root / "table.csv"
    table.write_text("a,b")
    for _ in range(3):
        with open_tracker(root) as tracker:
            tracker.metrics({"test/accuracy": 0.9})
            tracker.artifact(table)
        send_all(root)
        assert all_spools(root) == []
    assert Store(root).points("train@0", "test/accuracy") == [(0, 0.9)]


def test_a_spool_that_lost_its_mark_is_sent_again_without_doubles(
    root: Path, no_sender: NoSender
) -> None:
    tracker = open_tracker(root)
    for step in range(5):
        tracker.metrics({"loss": float(step)}, step)
    sender = tracking_sender.Sender(root)
    sender.send()
    spool = spool_of(root, "train@0-aa")
    spool.sent.unlink()
    tracker.metrics({"loss": 5.0}, 5)
    sender.send()
    tracker.finish()
    tracking_sender.Sender(root).send()
    assert Store(root).points("train@0", "loss") == [(step, float(step)) for step in range(6)]


def test_rows_sent_again_behind_the_mark_are_not_doubled(root: Path, no_sender: NoSender) -> None:
    """As when the sender is killed between the server's answer and its own note of it."""
    tracker = open_tracker(root)
    tracker.metrics({"loss": 0.0}, 0)
    tracking_sender.Sender(root).send()
    spool = spool_of(root, "train@0-aa")
    mark = spool.sent.read_text()
    for step in range(1, 5):
        tracker.metrics({"loss": float(step)}, step)
    tracking_sender.Sender(root).send()
    spool.sent.write_text(mark)
    tracker.metrics({"loss": 5.0}, 5)
    tracker.finish()
    tracking_sender.Sender(root).send()
    assert Store(root).points("train@0", "loss") == [(step, float(step)) for step in range(6)]


def test_a_parameter_that_changed_is_kept_beside_the_first(root: Path, no_sender: NoSender) -> None:
    for commit in ("one", "two"):
        with open_tracker(root) as tracker:
            tracker.parameters({"commit": commit, "steps": 3})
    send_all(root)
    data = Store(root).runs()["train@0"].data
    assert data.params == {"commit": "one", "steps": "3"}
    assert data.tags["selftrain.changed.commit"] == "two"


def test_names_that_mlflow_refuses_are_made_to_fit(root: Path, no_sender: NoSender) -> None:
    with open_tracker(root) as tracker:
        tracker.metrics({"recall/Ä, ☃": 0.5, "bad": float("nan")})
    send_all(root)
    assert Store(root).points("train@0", "recall/__ _") == [(0, 0.5)]
    assert last_error(root) is None


def test_what_the_server_refuses_is_noted_and_does_not_hold_up_the_rest(
    root: Path, no_sender: NoSender
) -> None:
    with open_tracker(root) as tracker:
        tracker.tags({"no\nname": "value"})
        tracker.metrics({"loss": 1.0})
        folder = spool_of(root, "train@0-aa").folder
    assert send_all(root) == 0
    assert Store(root).points("train@0", "loss") == [(0, 1.0)]
    assert (folder / "refused.jsonl").read_text().count("\n") == 1


def test_an_artifact_folder_outside_the_run_is_refused(root: Path, no_sender: NoSender) -> None:
    with open_tracker(root) as tracker:
        for folder in ("..", "a/../..", "/tmp"):
            with pytest.raises(ValueError, match="within"):
                tracker.artifact(Path(__file__), folder)


def test_an_unreachable_server_is_named_once_and_what_was_logged_arrives_later(
    root: Path, no_sender: NoSender, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_tracker(root, uri="http://127.0.0.1:9") as tracker:
        for step in range(3):
            tracker.metrics({"loss": float(step)}, step)
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "out of reach" in said
    assert count_unsent(root) == 5
    with open_tracker(root, "evaluate@0-bb") as tracker:
        tracker.metrics({"test/accuracy": 0.5})
    assert send_all(root) == 0
    assert capsys.readouterr().out == ""
    store = Store(root)
    assert [step for step, _ in store.points("train@0", "loss")] == [0, 1, 2]
    assert store.points("evaluate@0", "test/accuracy") == [(0, 0.5)]


def test_a_deleted_store_gets_a_rerun_whole(root: Path, no_sender: NoSender) -> None:
    for _ in range(2):
        with open_tracker(root) as tracker:
            tracker.metrics({"loss": 1.0})
        send_all(root)
    assert count_unsent(root) == 0
    (root / "mlflow.db").unlink()
    with open_tracker(root) as tracker:
        tracker.metrics({"loss": 1.0})
    assert count_unsent(root) == 3


def test_an_abandoned_run_is_ended_and_its_torn_line_dropped(root: Path) -> None:
    code = (
        "import os, pathlib, pipeline.runtime.tracking as t\n"
        "t.start_sender = lambda root: None\n"
        f"tracker = t.Tracker(pathlib.Path({str(root)!r}), run_key='train@0-aa', name='train@0',"
        " lineage_key='digits-1', lineage_name='digits', tags={})\n"
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


def test_one_run_is_open_in_one_tracker_only(
    root: Path, no_sender: NoSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.runtime.tracking.LOCK_SECONDS", 0.1)
    with open_tracker(root), pytest.raises(BusyError, match="train@0"):
        open_tracker(root)


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_an_exception_ends_the_run_as_what_it_is(
    root: Path, no_sender: NoSender, error: type[BaseException], status: str
) -> None:
    with pytest.raises(error), open_tracker(root):
        raise error
    send_all(root)
    assert Store(root).runs()["train@0"].info.status == status


@pytest.mark.slow
def test_a_killed_sender_loses_and_doubles_nothing(root: Path, no_sender: NoSender) -> None:
    tracker = open_tracker(root)
    for step in range(3000):
        tracker.metrics({"loss": float(step)}, step)
        if step % 100 == 0:
            tracker.parameters({f"p{step}": step})
    tracker.finish()
    spool = spool_of(root, "train@0-aa")
    command = ("-m", "pipeline.runtime.tracking_sender", "--root", str(root), "--linger", "0")
    with python(*command) as sender:
        _wait_for(lambda: spool.sent.exists())
        os.kill(sender.pid, signal.SIGKILL)
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
    monkeypatch.setattr("pipeline.runtime.tracking.start_sender", brief)
    with open_tracker(root) as tracker:
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


def test_a_tracker_costs_a_stage_little(root: Path, no_sender: NoSender) -> None:
    started = time.perf_counter()
    with open_tracker(root) as tracker:
        for step in range(200):
            tracker.metrics({"loss": 0.5, "rate": 0.1, "images_per_second": 9.0}, step)
    assert time.perf_counter() - started < 0.5


def test_no_events_are_left_where_nothing_was_logged(tmp_path: Path) -> None:
    write_json(tracking_folder(tmp_path) / "server.json", {"uri": "http://127.0.0.1:9"})
    assert send_all(tmp_path) == 0
    assert Spool(tmp_path).events == tmp_path / "events.jsonl"


def _wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
    return True
