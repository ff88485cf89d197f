"""Runs tracked elsewhere are taken over once: no step and no file twice."""

from __future__ import annotations

from pathlib import Path

from pipeline.runtime.tracking import are_held, drain, hold_spools, sender_is_running
from pipeline.runtime.tracking_import import import_spools
from pipeline.runtime.tracking_spool import read_events, spool_of, tracking_folder
from tests.runtime.tracked import QUIET_MLFLOW, NoSender, Store, open_tracker, send_all

pytestmark = QUIET_MLFLOW


def elsewhere(folder: Path, steps: range) -> Path:
    """The spools of a copy of the repository in which one run was tracked, and none sent."""
    folder.mkdir()
    hold_spools(folder)
    (folder / "page.html").write_text("page")
    with open_tracker(folder) as tracker:
        tracker.parameters({"seed": 3})
        for step in steps:
            tracker.metrics({"loss": float(step)}, step)
        tracker.artifact(folder / "page.html")
    return tracking_folder(folder) / "runs"


def test_where_spools_are_held_nothing_is_sent_and_nobody_waits(tmp_path: Path) -> None:
    elsewhere(tmp_path / "there", range(2))
    assert are_held(tmp_path / "there")
    assert not sender_is_running(tmp_path / "there")
    assert drain(tmp_path / "there", timeout_s=60).unsent == 0


def test_a_run_from_elsewhere_is_sent_from_here(root: Path, no_sender: NoSender) -> None:
    source = elsewhere(root / "there", range(3))
    assert import_spools(root, source, None) == 1
    no_sender()
    send_all(root)
    assert Store(root).points("train@0", "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert Store(root).runs()["train@0"].info.status == "FINISHED"
    assert import_spools(root, source, None) == 0


def test_what_the_run_had_logged_here_is_not_logged_again(root: Path, no_sender: NoSender) -> None:
    with open_tracker(root) as tracker:
        tracker.metrics({"loss": 0.0}, 0)
        tracker.metrics({"loss": 1.0}, 1)
    source = elsewhere(root / "there", range(4))
    assert import_spools(root, source, None) == 1
    assert import_spools(root, source, None) == 0
    events = [event for event, _ in read_events(spool_of(root, "train@0-aa"))]
    steps = [event["step"] for event in events if event["kind"] == "metrics"]
    assert steps == [0, 1, 2, 3]
    [artifact] = [event for event in events if event["kind"] == "artifact"]
    assert (spool_of(root, "train@0-aa").folder / artifact["path"]).read_text() == "page"


def test_no_spools_are_no_runs(root: Path, no_sender: NoSender) -> None:
    assert import_spools(root, root / "nothing", None) == 0
