"""A migrated MLflow store, made once: creating one takes seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.tracking.tracker import QUIET

REPOSITORY = Path(__file__).resolve().parents[2]


def python(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start this Python with `arguments`, the package importable, and MLflow quiet."""
    everything = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **environment,
    }
    return subprocess.Popen(
        [sys.executable, *arguments], env=everything, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty sqlite store with MLflow's tables."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    code = f"import mlflow; mlflow.MlflowClient('sqlite:///{path}').search_experiments()"
    with python("-W", "ignore", "-c", code) as process:
        assert process.wait(120) == 0
    return path


@pytest.fixture
def root(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with an empty store, no sender started unless the test starts it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("pipeline.tracking.sender.POLL_SECONDS", 0.01)
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    shutil.copyfile(store, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def no_sender(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Trackers start no sender; the returned function lets them again."""
    monkeypatch.setattr("pipeline.tracking.tracker.start_sender", lambda root: None)
    return monkeypatch.undo
