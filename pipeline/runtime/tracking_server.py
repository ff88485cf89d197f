"""Which MLflow server the runs go to, and whether it can be reached."""

from __future__ import annotations

import importlib.util
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.progress import say
from pipeline.runtime.tracking_spool import tracking_folder

PROBE_SECONDS = 1.0


def tracking_uri(root: Path, uri: str | None) -> str:
    """The server in use: MLFLOW_TRACKING_URI, else `uri`, else a sqlite file under `root`."""
    chosen = os.environ.get("MLFLOW_TRACKING_URI") or uri or "sqlite:///mlflow.db"
    prefix = "sqlite:///"
    if chosen.startswith(prefix):
        return prefix + str(root.resolve() / chosen.removeprefix(prefix))
    return chosen


def forget_lost_store(root: Path, uri: str) -> None:
    """Once the sqlite file is deleted nothing counts as logged to it."""
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        for path in (tracking_folder(root) / "runs").glob("*/seen.json"):
            path.unlink(missing_ok=True)


def say_unreachable(uri: str) -> bool:
    """Say at once, if it takes no time to see, that nothing can be sent; returns whether it did."""
    if importlib.util.find_spec("mlflow") is None:
        say_kept("mlflow is not installed")
        return True
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return False
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=PROBE_SECONDS):
            return False
    except OSError as error:
        say_kept(f"{parts.scheme}://{parts.hostname}:{port}: {error}")
        return True


def say_kept(reason: str) -> None:
    """Say why nothing can be sent now, and that nothing is lost."""
    say(f"MLflow is out of reach ({reason}); what is logged is kept and sent by a later stage")
