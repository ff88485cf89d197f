"""The sender: one background process that carries the tracking spools to MLflow, then ends.

    python -m pipeline.runtime.tracking_sender --root ROOT [--linger SECONDS]

Exit code 0: everything is sent, or another sender is at work; 1: the server did not take it, the
reason is in `.selftrain/tracking/last_error.txt`, and the spools are kept.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.files import read_json, write_text
from pipeline.runtime.tracking_spool import (
    Spool,
    all_spools,
    append_event,
    compact,
    cut_torn_line,
    is_finished,
    is_locked,
    sent_bytes,
    tracking_folder,
    try_lock,
    unsent_events,
)

if TYPE_CHECKING:
    from pipeline.runtime.tracking_mlflow import Destination

POLL_SECONDS = 0.25
BACKOFF_SECONDS = (2.0, 60.0)
FAILURES = 2
LOG_BYTES = 1 << 20
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


class Sender:
    """Sends what the spools under one root hold, keeping its connection between calls."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.folder = tracking_folder(root)
        self._destination: Destination | None = None

    def send(self) -> None:
        """Send every unsent event; raises whatever MLflow raises, with the rest kept.

        One run that can't be sent does not hold up the others; a server that fails twice is left.
        """
        uri = str(read_json(self.folder / "server.json")["uri"])
        failures: list[Exception] = []
        for spool in all_spools(self.root):
            try:
                if unsent_events(spool):
                    self._connect(uri).send(spool)
                close_finished(spool, uri)
            except Exception as error:
                failures.append(error)
            if len(failures) == FAILURES:
                break
        if failures:
            raise failures[0]

    def _connect(self, uri: str) -> Destination:
        from pipeline.runtime.tracking_mlflow import Destination

        if self._destination is None or self._destination.uri != uri:
            self._destination = Destination(self.root, uri)
        return self._destination


def close_abandoned(spool: Spool) -> None:
    """End a run as KILLED whose tracker's process is gone without having ended it."""
    if is_finished(spool) or is_locked(spool.lock):
        return
    with try_lock(spool.lock) as held:
        if held:
            cut_torn_line(spool)
        if held and not is_finished(spool):
            now = time.time_ns() // 1_000_000
            append_event(spool, {"kind": "status", "status": "KILLED", "time": now})


def close_finished(spool: Spool, uri: str) -> None:
    """Throw away the events of a run that has ended and is wholly sent."""
    with try_lock(spool.lock) as held:
        if held and is_finished(spool) and sent_bytes(spool, uri) and not unsent_events(spool):
            compact(spool, uri)


def serve(root: Path, linger_s: float) -> bool:
    """Send until no tracker is alive and nothing came for `linger_s`; False: the server failed."""
    sender, error_file = Sender(root), tracking_folder(root) / "last_error.txt"
    idle_since = time.monotonic()
    backoff = retry_at = 0.0
    while True:
        live = _live_trackers(root)
        if _has_work(root) and (time.monotonic() >= retry_at or not live):
            try:
                sender.send()
                error_file.unlink(missing_ok=True)
                idle_since, backoff = time.monotonic(), 0.0
            except Exception as error:  # whatever it is, the spools are kept and the user is told
                write_text(error_file, f"{_one_line(error)}\n")
                if not live:
                    return False
                backoff = min(max(2 * backoff, BACKOFF_SECONDS[0]), BACKOFF_SECONDS[1])
                retry_at = time.monotonic() + backoff
        elif not live and time.monotonic() - idle_since >= linger_s:
            return True
        time.sleep(POLL_SECONDS)


def _live_trackers(root: Path) -> int:
    spools = all_spools(root)
    for spool in spools:
        close_abandoned(spool)
    return sum(is_locked(spool.lock) for spool in spools)


def _has_work(root: Path) -> bool:
    return any(unsent_events(spool) for spool in all_spools(root))


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:500]


def run(root: Path, linger_s: float) -> int:
    """Serve as the only sender of `root`; returns the exit code."""
    lock = tracking_folder(root) / "sender.lock"
    while True:
        with try_lock(lock) as held:
            if not held:
                return 0
            if not serve(root, linger_s):
                return 1
        # A stage that ended while the lock was still held relies on this second look.
        if not _has_work(root):
            return 0


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(description="Send what the stages logged to MLflow.")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository")
    parser.add_argument("--linger", type=float, default=8.0, help="seconds to wait for more")
    options = parser.parse_args(arguments)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    log = tracking_folder(options.root) / "sender.log"
    if log.exists() and log.stat().st_size > LOG_BYTES:
        os.truncate(log, 0)
    os.nice(5)
    return run(options.root, options.linger)


if __name__ == "__main__":
    sys.exit(main())
