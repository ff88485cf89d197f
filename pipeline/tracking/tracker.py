"""What a stage logs to MLflow, without the stage paying or waiting for it.

Importing MLflow and opening its store takes seconds, and a run has a dozen stages. So a stage only
appends to a spool on disk (milliseconds); one process in the background, the sender, sends what
all spools hold, stays for the stages that follow, and then ends. What can't be sent now is kept
and sent by the sender of a later stage.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.files import publish_folder, write_text
from pipeline.progress import say
from pipeline.tracking.server import name_server
from pipeline.tracking.spool import EVENTS, Spool, is_locked, tracking_folder, unsent_runs

LINGER_SECONDS = 8.0
DIGEST_CHARACTERS = 36
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # what was asked twice would be there twice
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",  # what is logged goes to the server that was named
}


@dataclass(frozen=True)
class RunInfo:
    """Who a run is.

    A rerun of the same `run_key` goes on with the same MLflow run; runs with one `lineage_key` are
    children of one parent run. started: when the work began, in seconds since the epoch.
    """

    run_key: str
    name: str
    lineage_key: str
    lineage_name: str
    tags: Mapping[str, str]
    started: float
    experiment: str = "selftrain"


class Tracker:
    """Logs one run: its parameters, metrics, artifacts and model. uri: parameter tracking.uri."""

    def __init__(self, root: Path, info: RunInfo, uri: str | None = None) -> None:
        self.root = root.resolve()
        name_server(self.root, uri)
        self._spool = Spool(self.root, info.name, asdict(info))
        start_sender(self.root)

    def parameters(self, values: Mapping[str, object], *, lineage: bool = False) -> None:
        """Log parameters of the run, or of its parent, by name; a value is kept as its text."""
        self._spool.append("parameters", values=_named(values, str), lineage=lineage)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at `step`; where the run has one of that step, or a later, that one stays."""
        self._spool.append("metrics", step=step, values=_named(values, float))

    def headline(self, values: Mapping[str, float], step: int = 0) -> None:
        """Set metrics of the run's parent at `step`; the last that were set count."""
        self._spool.append("headline", step=step, values=_named(values, float))

    def tags(self, values: Mapping[str, str], *, lineage: bool = False) -> None:
        """Set tags of the run, or of its parent; `mlflow.note.content` is its description."""
        self._spool.append("tags", values=dict(values), lineage=lineage)

    def inputs(self, source: str, used: Mapping[str, tuple[Path, str]]) -> None:
        """Say which data sets of `source` the run uses: by part, folder of shards and digest."""
        from pipeline.data.shards import read_manifest  # pyarrow takes a while to import

        datasets = {}
        for part, (folder, digest) in used.items():
            place = folder.relative_to(self.root).as_posix()
            datasets[part] = {
                "name": f"{source}/{place}",
                "digest": digest[:DIGEST_CHARACTERS],
                "source_type": "local",
                "source": json.dumps({"uri": place}),
                "profile": json.dumps({"num_rows": read_manifest(folder).rows}),
            }
        self._spool.append("inputs", values=datasets)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Log a file or a folder as it is now, under the artifact folder `folder`."""
        self._spool.append("artifact", path=self._spool.keep(path), folder=folder)

    def table(self, path: Path) -> None:
        """Log a JSON file of `columns` and `data` (rows) that MLflow shows as a table."""
        self.artifact(path)
        self.tags({"mlflow.loggedArtifacts": json.dumps([{"path": path.name, "type": "table"}])})

    def model(self, folder: Path) -> None:
        """Log a folder of save_checkpoint or save_classifier as the run's loadable model.

        A run has one: what it has logged before stays.
        """
        self._spool.append("model", path=self._spool.keep(folder))

    def register(self, name: str, rights: Path, compared: Mapping[str, Any]) -> None:
        """Make the run's model a version of the registered model `name`.

        rights: a JSON file as champion.promote takes it; compared: how it compares.
        """
        path = self._spool.keep(rights)
        self._spool.append("register", path=path, name=name, compared=dict(compared))

    def finish(self, status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED") -> None:
        """End the run; says so if MLflow can't be reached."""
        with closing(self._spool):
            self._spool.append("end", status=status)
        if error := last_error(self.root):
            say(f"MLflow is out of reach ({error}); what is logged is kept and sent later")
        start_sender(self.root)


def _named(values: Mapping[str, Any], kind: Callable[[Any], Any]) -> dict[str, Any]:
    """The values as `kind`, `_` in their names for what MLflow does not take there."""
    refused = re.compile(r"[^\w\-. :/]", re.ASCII)
    return {refused.sub("_", name)[:250]: kind(value) for name, value in values.items()}


def start_sender(root: Path, linger_s: float = LINGER_SECONDS) -> None:
    """Start a sender in the background, unless one is at work or the spools are held."""
    folder = tracking_folder(root)
    if _held(root).exists() or is_locked(folder / "sender.lock"):
        return
    command = [sys.executable, "-W", "ignore", "-m", "pipeline.tracking.sender"]
    with (folder / "sender.log").open("w") as log:
        sender = subprocess.Popen(
            [*command, str(root.resolve()), str(linger_s)],
            cwd=Path(__file__).parents[2],
            env={**QUIET, **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    sender.returncode = 0  # it outlives this process: nobody waits for it


def last_error(root: Path) -> str | None:
    """Why the last attempt to send failed, None if it did not."""
    with suppress(FileNotFoundError):
        return (tracking_folder(root) / "last_error.txt").read_text().strip()
    return None


def drain(root: Path, timeout_s: float) -> int:
    """Wait until all runs that ended are sent, the sender fails, or `timeout_s` seconds passed.

    Returns how many are left; where the spools are held it does not wait.
    """
    if _held(root).exists():
        return 0
    (tracking_folder(root) / "last_error.txt").unlink(missing_ok=True)
    start_sender(root)
    deadline = time.monotonic() + timeout_s
    while (left := unsent_runs(root)) and not last_error(root) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _held(root: Path) -> Path:
    """The file that is there where nothing is sent from `root`."""
    return tracking_folder(root) / "held"


def hold_spools(root: Path) -> None:
    """From now on send nothing from `root`: what is logged there is carried elsewhere and sent."""
    write_text(_held(root), "")


def import_spools(root: Path, source: Path, uri: str | None) -> int:
    """Take over the spools of another copy of the repository that lie in `source`; their number.

    The sender, which is started, leaves out what a run has logged before.
    """
    came = [events.parent for events in source.glob(f"*/{EVENTS}")]
    for spool in came:
        publish_folder(spool, tracking_folder(root) / spool.name)
    if came:
        name_server(root, uri)
        start_sender(root)
    return len(came)
