"""Trackers, senders and MLflow's store, as the tests of tracking use them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline.tracking import sender
from pipeline.tracking.server import tracking_uri
from pipeline.tracking.tracker import RunInfo, Tracker, last_error

QUIET_MLFLOW = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*[Tt]ype hint:UserWarning"),
]

NoSender = Callable[[], None]


def open_tracker(
    root: Path,
    run_key: str = "train@0-aa",
    uri: str | None = None,
    started: float | None = None,
) -> Tracker:
    info = RunInfo(
        run_key=run_key,
        name=run_key.split("-")[0],
        lineage_key="digits-1",
        lineage_name="digits",
        tags={"commit": "c0ffee"},
        started=time.time() if started is None else started,
    )
    return Tracker(root, info, uri)


@contextmanager
def tracked(root: Path, run_key: str = "train@0-aa", uri: str | None = None) -> Iterator[Tracker]:
    """A tracker whose run has finished at the end of the block."""
    tracker = open_tracker(root, run_key, uri)
    try:
        yield tracker
    finally:
        tracker.finish()


def send_all(root: Path) -> None:
    """Send in this process: MLflow is imported once for all tests."""
    assert sender.run(root, linger_s=0.0) == 0, last_error(root)


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
