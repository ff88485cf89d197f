"""What a stage logs reaches MLflow once; with a real sqlite store."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline.tracking.spool import all_spools, tracking_folder
from pipeline.tracking.tracker import last_error
from tests.tracking.tracked import QUIET_MLFLOW, NoSender, Store, open_tracker, send_all, tracked

pytestmark = QUIET_MLFLOW


def test_everything_logged_arrives_in_a_run_under_its_lineage(
    root: Path, no_sender: NoSender
) -> None:
    report = root / "report.json"
    report.write_text("first")
    with tracked(root) as tracker:
        tracker.parameters({"steps": 10, "name": "resnet_small"})
        for step in range(10):
            tracker.metrics({"loss": 1 / (step + 1), "rate": 0.1}, step)
        tracker.artifact(report, "reports")
        report.write_text("later")
        tracker.tags({"mlflow.note.content": "**digits**"}, lineage=True)
        tracker.parameters({f"p{number}": number for number in range(150)}, lineage=True)
        tracker.headline({"test/accuracy": 0.5})
        time.sleep(0.01)  # of one millisecond MLflow shows the largest
        tracker.headline({"test/accuracy": 0.25})
        for step, accuracy in enumerate((0.125, 0.25)):
            tracker.headline({"generations": accuracy}, step)
    send_all(root)
    store = Store(root)
    child, parent = store.runs()["train@0"], store.runs()["digits"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["commit"] == "c0ffee"
    assert child.data.params == {"steps": "10", "name": "resnet_small"}
    assert store.points("train@0", "loss") == [(s, 1 / (s + 1)) for s in range(10)]
    assert store.artifact("train@0", "reports/report.json", root) == "first"
    assert parent.data.tags["mlflow.note.content"] == "**digits**"
    assert parent.data.metrics == {"test/accuracy": 0.25, "generations": 0.25}
    assert store.points("digits", "generations") == [(0, 0.125), (1, 0.25)]
    assert len(parent.data.params) == 150
    assert "test/accuracy" not in child.data.metrics
    assert (child.info.status, parent.info.status) == ("FINISHED", "FINISHED")


def test_stages_of_one_lineage_share_the_parent(root: Path, no_sender: NoSender) -> None:
    for key in ("train@0-aa", "train@1-bb"):
        with tracked(root, key) as tracker:
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
    with tracked(root) as again:
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
        with tracked(root) as tracker:
            tracker.metrics({"test/accuracy": 0.9})
            tracker.artifact(table)
        send_all(root)
        assert all_spools(root) == []
    assert Store(root).points("train@0", "test/accuracy") == [(0, 0.9)]
    assert Store(root).artifact("train@0", "table.csv", root) == "a,b"


def test_names_that_mlflow_refuses_are_made_to_fit(root: Path, no_sender: NoSender) -> None:
    with tracked(root) as tracker:
        tracker.metrics({"recall/Ä, ☃": 0.5, "bad": float("nan")})
    send_all(root)
    assert Store(root).points("train@0", "recall/__ _") == [(0, 0.5)]
    assert last_error(root) is None


def test_what_the_server_refuses_is_noted_and_does_not_hold_up_the_rest(
    root: Path, no_sender: NoSender
) -> None:
    with tracked(root) as tracker:
        tracker.tags({"no\nname": "value"})
        tracker.tags({"name": "value"})
        tracker.metrics({"loss": 1.0})
    send_all(root)
    assert Store(root).points("train@0", "loss") == [(0, 1.0)]
    assert Store(root).runs()["train@0"].data.tags["name"] == "value"
    assert (tracking_folder(root) / "refused.jsonl").read_text().count("\n") == 1
