"""Runs tracked elsewhere are taken over once: no step and no file twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.tracking.spool import tracking_folder
from pipeline.tracking.tracker import drain, hold_spools, import_spools
from tests.tracking.tracked import QUIET_MLFLOW, NoSender, Store, send_all, tracked

pytestmark = QUIET_MLFLOW


def elsewhere(folder: Path, steps: range) -> Path:
    """The spools of a copy of the repository in which one run was tracked, and none sent."""
    folder.mkdir()
    hold_spools(folder)
    (folder / "page.html").write_text("page")
    with tracked(folder) as tracker:
        tracker.parameters({"seed": 3})
        for step in steps:
            tracker.metrics({"loss": float(step)}, step)
        tracker.artifact(folder / "page.html")
    return tracking_folder(folder)


def test_where_spools_are_held_nothing_is_sent_and_nobody_waits(tmp_path: Path) -> None:
    elsewhere(tmp_path / "there", range(2))
    assert not (tracking_folder(tmp_path / "there") / "sender.log").exists()
    assert drain(tmp_path / "there", timeout_s=60) == 0


def test_a_run_from_elsewhere_is_sent_from_here(root: Path, no_sender: NoSender) -> None:
    source = elsewhere(root / "there", range(3))
    for _ in range(2):  # the second time as after a kill, before the archive was forgotten
        assert import_spools(root, source, None) == 1
        send_all(root)
        store = Store(root)
        assert store.points("train@0", "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
        assert store.runs()["train@0"].info.status == "FINISHED"


@pytest.mark.parametrize("sent_before", [True, False])
def test_what_the_run_had_logged_here_is_not_logged_again(
    root: Path, no_sender: NoSender, sent_before: bool
) -> None:
    with tracked(root) as tracker:
        tracker.metrics({"loss": 0.0}, 0)
        tracker.metrics({"loss": 1.0}, 1)
    if sent_before:
        send_all(root)
    assert import_spools(root, elsewhere(root / "there", range(4)), None) == 1
    send_all(root)
    store = Store(root)
    assert store.points("train@0", "loss") == [(step, float(step)) for step in range(4)]
    assert store.artifact("train@0", "page.html", root) == "page"


def test_no_spools_are_no_runs(root: Path, no_sender: NoSender) -> None:
    assert import_spools(root, root / "nothing", None) == 0
