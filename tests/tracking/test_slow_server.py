"""A server that answers too late has done what it was asked: nothing lost, nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.tracking import sender
from pipeline.tracking.spool import unsent_runs
from tests.tracking.slow_server import slow_server
from tests.tracking.tracked import QUIET_MLFLOW, NoSender, Store, tracked

pytestmark = [*QUIET_MLFLOW, pytest.mark.filterwarnings("ignore:starlette.middleware.wsgi")]

TRIES = 30
WRITTEN = ("experiments/create", "runs/create", "runs/update", "runs/log-batch")


def test_a_server_that_answers_too_late_gets_everything_once(
    root: Path, no_sender: NoSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with slow_server(root, monkeypatch) as server:
        with tracked(root, uri=server.url) as tracker:
            tracker.parameters({"steps": 3})
            for step in range(3):
                tracker.metrics({"loss": float(step)}, step)
        for _ in range(TRIES):
            if sender.run(root, linger_s=0.0) == 0:
                break
        assert {path.partition("mlflow/")[2] for path in server.late} >= set(WRITTEN)
    assert unsent_runs(root) == 0
    store = Store(root)
    ids = [each.experiment_id for each in store.client.search_experiments()]
    runs = store.client.search_runs(ids)
    assert sorted(run.info.run_name for run in runs) == ["digits", "train@0"]
    assert store.points("train@0", "loss") == [(step, float(step)) for step in range(3)]
    assert store.runs()["train@0"].data.params == {"steps": "3"}
    assert store.runs()["train@0"].info.status == "FINISHED"
