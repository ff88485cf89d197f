"""The sender: one background process that carries the tracking spools to MLflow, then ends.

    python -m pipeline.tracking.sender --root ROOT [--linger SECONDS]

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
from pipeline.tracking.spool import (
    Spool,
    all_spools,
    count_unsent,
    tracking_folder,
    try_lock,
)

if TYPE_CHECKING:
    from pipeline.tracking.destination import Destination

POLL_SECONDS = 0.25
RETRY_SECONDS = 10.0
FAILURES = 2
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # what was asked twice would be there twice
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


class Sender:
    """Sends what the spools under one root hold, keeping its connection between calls."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._destination: Destination | None = None

    def send(self) -> None:
        """Send every unsent event; raises whatever MLflow raises, with the rest kept.

        One run that can't be sent does not hold up the others; a server that fails twice is left.
        """
        uri = str(read_json(tracking_folder(self.root) / "server.json")["uri"])
        failures: list[Exception] = []
        for spool in all_spools(self.root):
            try:
                if spool.unsent() or spool.sent_bytes(uri) == 0:
                    self._connected(uri).send(spool)
                _empty_if_sent(spool, uri)
            except Exception as error:
                failures.append(error)
            if len(failures) == FAILURES:
                break
        if failures:
            raise failures[0]

    def _connected(self, uri: str) -> Destination:
        from pipeline.tracking.destination import Destination  # imports MLflow: seconds

        if self._destination is None or self._destination.uri != uri:
            self._destination = Destination(self.root, uri)
        return self._destination


def _empty_if_sent(spool: Spool, uri: str) -> None:
    with try_lock(spool.lock) as held:
        if held and spool.ended() and spool.sent_bytes(uri) and not spool.unsent():
            spool.empty()


def end_abandoned(spool: Spool) -> bool:
    """Whether a tracker has the run open; one whose process is gone is ended as KILLED."""
    with try_lock(spool.lock) as held:
        if held and not spool.ended():
            spool.cut_torn_line()
            spool.append({"kind": "status", "status": "KILLED"})
        return not held


def serve(root: Path, linger_s: float) -> int:
    """Send until no tracker is alive and nothing came for `linger_s`; the exit code."""
    sender, error_file = Sender(root), tracking_folder(root) / "last_error.txt"
    idle_since = time.monotonic()
    while True:
        live = sum([end_abandoned(spool) for spool in all_spools(root)])
        pause = POLL_SECONDS
        if count_unsent(root):
            try:
                sender.send()
                error_file.unlink(missing_ok=True)
                idle_since = time.monotonic()
            except Exception as error:  # whatever it is, the spools are kept and the user is told
                first = (str(error).strip().splitlines() or [""])[0]
                write_text(error_file, f"{type(error).__name__}: {first}"[:500] + "\n")
                if not live:
                    return 1
                pause = RETRY_SECONDS
        elif not live and time.monotonic() - idle_since >= linger_s:
            return 0
        time.sleep(pause)


def run(root: Path, linger_s: float) -> int:
    """Serve as the only sender of `root`; returns the exit code."""
    while True:
        with try_lock(tracking_folder(root) / "sender.lock") as held:
            code = serve(root, linger_s) if held else 0
        # A stage that ended while the lock was still held relies on this second look.
        if code or not held or not count_unsent(root):
            return code


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(description="Send what the stages logged to MLflow.")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository")
    parser.add_argument("--linger", type=float, default=8.0, help="seconds to wait for more")
    options = parser.parse_args(arguments)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.nice(5)
    return run(options.root, options.linger)


if __name__ == "__main__":
    sys.exit(main())
