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
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from filelock import FileLock, Timeout

from pipeline.errors import BusyError
from pipeline.files import file_digest, read_json, value_digest, write_json, write_text
from pipeline.progress import say
from pipeline.tracking.server import tracking_uri
from pipeline.tracking.spool import Spool, count_unsent, is_locked, spool_of, tracking_folder

Status = Literal["FINISHED", "FAILED", "KILLED"]

PACKAGE_ROOT = Path(__file__).resolve().parents[2]
HELD = "held"
TABLES = "mlflow.loggedArtifacts"
LOCK_SECONDS = 10.0
LINGER_SECONDS = 8.0
PARAMETER_CHARACTERS = 6000
TAG_CHARACTERS = 8000
DIGEST_CHARACTERS = 36
CONTEXTS = {
    "labeled": "training",
    "unlabeled": "self-training",
    "predictions": "selection",
    "pseudo_labels": "training",
    "validation": "validation",
    "test": "testing",
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
    """Logs one run: its parameters, metrics, artifacts and models.

    uri: the parameter tracking.uri. Raises BusyError while another process has the same run open.
    """

    def __init__(self, root: Path, info: RunInfo, uri: str | None = None) -> None:
        self.root = root.resolve()
        self._spool = spool_of(self.root, info.run_key)
        self._lock = hold_lock(self._spool, info.name)
        self._guard = threading.Lock()
        self._finished = False
        self._model: str | None = None
        self._spool.open(asdict(info) | {"tags": _shortened(info.tags)})
        _name_server(self.root, uri)
        self._append("status", status="RUNNING")
        start_sender(self.root)

    def parameters(self, values: Mapping[str, object]) -> None:
        """Log parameters by name; a value is kept as its text."""
        texts = {clean_name(key): str(v)[:PARAMETER_CHARACTERS] for key, v in values.items()}
        self._append("parameters", values=texts)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at `step`; where the run has one of that step, or a later, that one stays."""
        self._append("metrics", step=step, values=_numbers(values))

    def headline(self, values: Mapping[str, float]) -> None:
        """Set metrics of the run's parent; the last that were set count."""
        self._append("headline", step=0, values=_numbers(values))

    def tags(self, values: Mapping[str, str], *, lineage: bool = False) -> None:
        """Set tags of the run, or of its parent; `mlflow.note.content` is its description."""
        self._append("tags", values=_shortened(values), lineage=lineage)

    def inputs(self, source: str, used: Mapping[str, tuple[Path, str]]) -> None:
        """Say which data sets the run uses: by part, its folder of shards and its digest.

        source: their name. Parts that neither are images nor say anything of them are left out.
        """
        from pipeline.data.shards import read_manifest  # pyarrow takes a while to import

        datasets = []
        for part in [part for part in CONTEXTS if part in used]:
            folder, digest = used[part]
            place = folder.relative_to(self.root).as_posix()
            about = {"name": f"{source}/{place}", "source": place, "context": CONTEXTS[part]}
            counted = {"digest": digest[:DIGEST_CHARACTERS], "rows": read_manifest(folder).rows}
            datasets.append(about | counted)
        self._append("inputs", datasets=datasets)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Log a file or a folder as it is now, under the artifact folder `folder`."""
        if Path(folder).is_absolute() or ".." in Path(folder).parts:
            raise ValueError(f"folder must lie within the run's artifacts, got {folder!r}")
        self._append("artifact", path=self._spool.keep(path), folder=folder)

    def table(self, path: Path) -> None:
        """Log a JSON file of `columns` and `data` (rows) that MLflow shows as a table."""
        self.artifact(path)
        self.tags({TABLES: json.dumps([{"path": path.name, "type": "table"}])})

    def model(self, folder: Path) -> None:
        """Log a checkpoint folder (model.safetensors, model.json) as a loadable MLflow model."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        self._model = value_digest({str(f.relative_to(folder)): file_digest(f) for f in files})
        self._append("model", path=self._spool.keep(folder), digest=self._model)

    def register(self, name: str, rights: Path, compared: Mapping[str, float]) -> None:
        """Make the model logged last a version of the registered model `name`.

        rights: a JSON file of promotion.rights_by_content; compared: options of promotion.promote.
        """
        path = self._spool.keep(rights)
        self._append("register", path=path, name=name, digest=self._model, compared=dict(compared))

    def finish(self, status: Status = "FINISHED") -> None:
        """End the run; says so if MLflow can't be reached; a second call does nothing."""
        if self._finished:
            return
        self._append("status", status=status)
        self._finished = True
        self._lock.release()
        if error := last_error(self.root):
            say(f"MLflow is out of reach ({error}); what is logged is kept and sent later")
        start_sender(self.root)

    def _append(self, kind: str, **values: Any) -> None:
        with self._guard:
            self._spool.append({"kind": kind, **values})


def hold_lock(spool: Spool, name: str) -> FileLock:
    """The spool's lock, held; raises BusyError while another process has it."""
    spool.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(spool.lock, thread_local=False)
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise BusyError(f"{name}: another process tracks this run (lock {spool.lock})") from None
    return lock


def clean_name(name: str) -> str:
    """`name` with what MLflow does not take in a metric or parameter name replaced by `_`."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)[:250]


def _numbers(values: Mapping[str, float]) -> dict[str, float]:
    return {clean_name(key): float(value) for key, value in values.items()}


def _shortened(values: Mapping[str, str]) -> dict[str, str]:
    return {key: str(value)[:TAG_CHARACTERS] for key, value in values.items()}


def _name_server(root: Path, uri: str | None) -> None:
    """Tell the sender where everything goes from now on."""
    write_json(tracking_folder(root) / "server.json", {"uri": tracking_uri(root, uri)})


class DrainResult(NamedTuple):
    """How many events no server has yet, and the sender's last error."""

    unsent: int
    error: str | None


def drain(root: Path, timeout_s: float) -> DrainResult:
    """Wait until everything spooled is sent, the sender fails, or `timeout_s` seconds passed.

    Where the spools are held (`hold_spools`) there is nothing to wait for.
    """
    started, deadline = time.time(), time.monotonic() + timeout_s
    while not are_held(root) and (unsent := count_unsent(root)):
        failed = last_error(root, since=started) and not sender_is_running(root)
        if failed or time.monotonic() > deadline:
            return DrainResult(unsent, last_error(root))
        start_sender(root)
        time.sleep(0.1)
    return DrainResult(0, None)


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


def import_spools(root: Path, source: Path, uri: str | None) -> int:
    """Take over the runs whose spools, of another copy of the repository, lie in `source`.

    The sender, which is started, leaves out what a run has logged before. Returns how many runs
    came; raises BusyError while one of them is tracked here. uri: the parameter tracking.uri.
    """
    came = [Spool(path.parent) for path in sorted(source.glob("*/events.jsonl"))]
    for other in came:
        spool = Spool(tracking_folder(root) / "runs" / other.folder.name)
        with hold_lock(spool, spool.folder.name):
            spool.open(read_json(other.header))
            if other.files.exists():
                shutil.copytree(other.files, spool.files, dirs_exist_ok=True)
            for event, _ in other.read(other.sent_bytes()):
                spool.append(event)
    if came:
        _name_server(root, uri)
        start_sender(root)
    return len(came)


def sender_is_running(root: Path) -> bool:
    """Whether a sender is at work for this repository."""
    return is_locked(tracking_folder(root) / "sender.lock")


def start_sender(root: Path, linger_s: float = LINGER_SECONDS) -> None:
    """Start a sender in the background, unless one is at work or the spools are held.

    No sender is missed by a stage that finds one at work as it ends: a sender looks for unsent
    events once more after it has let its lock go.
    """
    if are_held(root) or sender_is_running(root):
        return
    log = str(tracking_folder(root) / "sender.log")
    paths = [str(PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-W", "ignore", "-m", "pipeline.tracking.sender"]
    os.posix_spawn(
        sys.executable,
        [*command, "--root", str(root.resolve()), "--linger", str(linger_s)],
        os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
