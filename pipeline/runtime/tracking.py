"""What a stage logs to MLflow, without the stage paying or waiting for it.

Importing MLflow and opening its store takes seconds, and a run has a dozen stages. So a stage
only appends to a spool on disk (milliseconds); one process in the background, the sender, sends
what all spools hold, stays for the stages that follow, and then ends. What can't be sent now is
kept and sent by the sender of a later stage.
"""

from __future__ import annotations

import importlib.util
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from filelock import FileLock, Timeout

from pipeline.errors import BusyError
from pipeline.files import read_json, write_json, write_text
from pipeline.runtime.background import start_program
from pipeline.runtime.tracking_server import (
    forget_lost_store,
    say_kept,
    say_unreachable,
    tracking_uri,
)
from pipeline.runtime.tracking_spool import (
    Event,
    all_spools,
    append_event,
    clean_name,
    content_digest,
    cut_torn_line,
    is_locked,
    keep_file,
    load_seen,
    spool_of,
    tracking_folder,
    unsent_events,
)

Status = Literal["FINISHED", "FAILED", "KILLED"]

HELD = "held"
TABLES = "mlflow.loggedArtifacts"
LOCK_SECONDS = 10.0
NUDGE_SECONDS = 30.0
PARAMETER_CHARACTERS = 6000
TAG_CHARACTERS = 8000


class Tracker:
    """Logs one run: its parameters, metrics, artifacts and models; use it as a context manager.

    The run is known by `run_key`: a rerun of the same key goes on with the same MLflow run, and
    metric steps that were logged before are not logged again. Runs with one `lineage_key` are
    children of one parent run. started: when the work began, in seconds since the epoch, None for
    now. Raises BusyError while another process has the same run open.
    """

    def __init__(
        self,
        root: Path,
        *,
        run_key: str,
        name: str,
        lineage_key: str,
        lineage_name: str,
        tags: Mapping[str, str],
        uri: str | None = None,
        experiment: str = "selftrain",
        started: float | None = None,
    ) -> None:
        self.root = root.resolve()
        self.uri = tracking_uri(self.root, uri)
        self._spool = spool_of(self.root, run_key)
        self._lock = hold_lock(self._spool.lock, name)
        self._guard = threading.Lock()
        self._finished = False
        self._nudged = time.monotonic()
        header = {
            "run_key": run_key,
            "name": name,
            "lineage_key": lineage_key,
            "lineage_name": lineage_name,
            "tags": {key: str(value)[:TAG_CHARACTERS] for key, value in tags.items()},
            "experiment": experiment,
        }
        self._open(header, time.time() if started is None else started)

    def _open(self, header: Mapping[str, object], started: float) -> None:
        forget_lost_store(self.root, self.uri)
        if not self._spool.events.exists():
            self._spool.sent.unlink(missing_ok=True)
        cut_torn_line(self._spool)
        if not (self._spool.header.exists() and read_json(self._spool.header) == header):
            write_json(self._spool.header, header)
            os.utime(self._spool.header, (started, started))  # when the run began, to the sender
        write_json(tracking_folder(self.root) / "server.json", {"uri": self.uri})
        self._seen = load_seen(self._spool, self.uri)
        self._append({"kind": "status", "status": "RUNNING"})
        self._said = say_unreachable(self.uri)
        start_sender(self.root)

    def parameters(self, values: Mapping[str, object]) -> None:
        """Log parameters by name; a value is kept as its text."""
        texts = {clean_name(key): str(value) for key, value in values.items()}
        shortened = {key: text[:PARAMETER_CHARACTERS] for key, text in texts.items()}
        self._append({"kind": "parameters", "values": shortened})

    def next_step(self, name: str) -> int:
        """The first step at which the metric `name` was not logged yet."""
        return self._seen.steps.get(name, -1) + 1

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at `step`, except those of which the run has logged it, or a later one."""
        known = self._seen.steps
        named = {clean_name(key): float(value) for key, value in values.items()}
        new = {key: value for key, value in named.items() if step > known.get(key, step - 1)}
        if new:
            known |= dict.fromkeys(new, step)
            self._append({"kind": "metrics", "step": step, "values": new})
        if time.monotonic() - self._nudged > NUDGE_SECONDS:
            self._nudged = time.monotonic()
            start_sender(self.root)

    def headline(self, values: Mapping[str, float]) -> None:
        """Set metrics of the run's parent; the last that were set count."""
        named = {clean_name(key): float(value) for key, value in values.items()}
        self._append({"kind": "headline", "values": named})

    def tags(self, values: Mapping[str, str], *, lineage: bool = False) -> None:
        """Set tags of the run, or of its parent; `mlflow.note.content` is its description."""
        texts = {key: str(value)[:TAG_CHARACTERS] for key, value in values.items()}
        self._append({"kind": "tags", "values": texts, "lineage": lineage})

    def artifact(self, path: Path, folder: str = "") -> None:
        """Log a file or a folder as it is now, under the artifact folder `folder`."""
        if Path(folder).is_absolute() or ".." in Path(folder).parts:
            raise ValueError(f"folder must lie within the run's artifacts, got {folder!r}")
        self._keep("artifact", path, f"{folder}/{path.name}", {"folder": folder})

    def table(self, path: Path) -> None:
        """Log a JSON file of `columns` and `data` (rows) that MLflow shows as a table."""
        self.artifact(path)
        self.tags({TABLES: json.dumps([{"path": path.name, "type": "table"}])})

    def drawn(self, what: str, path: Path, about: Mapping[str, object]) -> None:
        """Log the figures `what` of the values in the JSON file `path`; the sender draws them.

        what, about: as pipeline.report.drawn.draw takes them.
        """
        self._keep("drawn", path, f"{what}.drawn", {"what": what, "about": dict(about)})

    def inputs(self, datasets: Sequence[Mapping[str, object]]) -> None:
        """Say which data sets the run uses, as tracking_datasets describes them."""
        self._append({"kind": "inputs", "datasets": [dict(each) for each in datasets]})

    def register(self, name: str, rights: Path, compared: Mapping[str, float]) -> None:
        """Make the model logged last a version of the registered model `name`.

        rights: a JSON file of promotion.rights_by_content; compared: options of promotion.promote.
        """
        model = self._seen.digests["model"]
        extra = {"name": name, "model": model, "compared": dict(compared)}
        self._keep("register", rights, f"register/{model}", extra)

    def model(self, folder: Path) -> None:
        """Log a checkpoint folder (model.safetensors, model.json) as a loadable MLflow model."""
        self._keep("model", folder, "model", {})

    def finish(self, status: Status = "FINISHED") -> None:
        """End the run; says so once if MLflow can't be reached; a second call does nothing."""
        if self._finished:
            return
        self._append({"kind": "status", "status": status})
        self._finished = True
        self._lock.release()
        error = last_error(self.root)
        if error and not self._said:
            say_kept(error)
        start_sender(self.root)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish("FINISHED")
        else:
            self.finish("FAILED" if issubclass(kind, Exception) else "KILLED")

    def _keep(self, kind: str, path: Path, target: str, extra: Event) -> None:
        digest = content_digest(path)
        if self._seen.digests.get(target) == digest:
            return
        place = keep_file(self._spool, path, digest)
        self._append({"kind": kind, "path": place, "target": target, "digest": digest, **extra})
        self._seen.digests[target] = digest

    def _append(self, event: Event) -> None:
        with self._guard:
            append_event(self._spool, {**event, "time": time.time_ns() // 1_000_000})


@dataclass(frozen=True)
class DrainResult:
    """How many events no server has yet, and the sender's last error."""

    unsent: int
    error: str | None


def drain(root: Path, timeout_s: float) -> DrainResult:
    """Wait until everything spooled is sent, the sender fails, or `timeout_s` seconds passed.

    Where the spools are held (`hold_spools`) there is nothing to wait for.
    """
    if are_held(root):
        return DrainResult(0, None)
    started = time.time()
    deadline = time.monotonic() + timeout_s
    while (unsent := count_unsent(root)) and time.monotonic() < deadline:
        if last_error(root, since=started) and not sender_is_running(root):
            break
        start_sender(root)
        time.sleep(0.1)
    return DrainResult(unsent, last_error(root))


def count_unsent(root: Path) -> int:
    """How many events of all spools no server has yet."""
    return sum(unsent_events(spool) for spool in all_spools(root))


def last_error(root: Path, since: float = 0.0) -> str | None:
    """Why the last attempt to send failed (after the time `since`), or None if it did not."""
    path = tracking_folder(root) / "last_error.txt"
    try:
        return path.read_text().strip() if path.stat().st_mtime >= since else None
    except FileNotFoundError:
        return None


def hold_spools(root: Path) -> None:
    """From now on send nothing from `root`: what is logged there is carried elsewhere and sent."""
    write_text(tracking_folder(root) / HELD, "")


def are_held(root: Path) -> bool:
    """Whether what is logged under `root` is carried elsewhere."""
    return (tracking_folder(root) / HELD).exists()


def sender_is_running(root: Path) -> bool:
    """Whether a sender is at work for this repository."""
    return is_locked(tracking_folder(root) / "sender.lock")


def start_sender(root: Path, linger_s: float = 8.0) -> None:
    """Start a sender in the background, detached from this process, unless one is at work.

    None is started where the spools are held (`hold_spools`).

    No sender is missed by a stage that finds one at work as it ends: a sender looks for unsent
    events once more after it has let its lock go.
    """
    folder = tracking_folder(root)
    if are_held(root) or sender_is_running(root):
        return
    if importlib.util.find_spec("mlflow") is None:
        return
    start_program(
        "pipeline.runtime.tracking_sender",
        *("--root", str(root.resolve()), "--linger", str(linger_s)),
        log=folder / "sender.log",
    )


def hold_lock(path: Path, name: str) -> FileLock:
    """The lock of a run's spool, held; raises BusyError while another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise BusyError(f"{name}: another process is tracking this run (lock {path})") from None
    return lock
