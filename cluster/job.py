"""What runs on the cluster: `dvc repro` in a copy of what was sent, and its results put away.

python -m cluster.job        in the folder that Ray has unpacked; SELFTRAIN_JOB says what to do
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.remote import Remote, as_path
from pipeline.errors import ClusterError, SelftrainError
from pipeline.params import PARAMS_FILE, load_params
from pipeline.progress import say
from pipeline.tracking.tracker import drain, hold_spools

VARIABLE = "SELFTRAIN_JOB"
DRAIN_SECONDS = 60.0
TERMINATED = 143


@dataclass(frozen=True)
class Job:
    """What a job is to do: its id, DVC's arguments, the remote's settings.

    `tracking`: a server that the cluster reaches, else the tracked runs are carried back;
    `storage_url`: storage that all nodes see, where the work is done if it is a folder.
    """

    job: str
    arguments: Sequence[str]
    settings: Mapping[str, Any]
    storage_url: str | None
    tracking: str | None

    def environment(self, commit: str) -> dict[str, str]:
        """The variables that the job and its stages get; they can't tell the commit themselves."""
        tracking = {"MLFLOW_TRACKING_URI": self.tracking} if self.tracking else {}
        quiet = {"DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        return {VARIABLE: json.dumps(asdict(self)), "SELFTRAIN_COMMIT": commit} | quiet | tracking


def run(sent: Path, job: Job) -> int:
    """Do what was asked; the exit code of `dvc repro`."""
    folder, kept = work_folder(job), False
    try:
        shutil.copytree(sent, folder, dirs_exist_ok=True, symlinks=True)
        (folder / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
        remote = Remote(folder, job.settings)
        check_seen(remote, job.job)
        if job.tracking is None:
            hold_spools(folder)
        remote.pull()
        code = repro(remote, job.arguments)
        if job.tracking is not None:
            drain(folder, DRAIN_SECONDS)
        kept = True
        remote.put_results(job.job)
        kept = False
        return code
    finally:
        if kept:
            say(f"job: what is done lies in {folder} on this node")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def work_folder(job: Job) -> Path:
    """A folder for this job alone: on the shared file system where storage.url names one."""
    shared = as_path(job.storage_url or "")
    if not shared.startswith("/"):
        return Path(tempfile.mkdtemp(prefix="selftrain-"))
    folder = Path(shared) / "work" / job.job
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_seen(remote: Remote, job: str) -> None:
    """Raise ClusterError unless the cluster sees what the submitter put into the remote."""
    if not remote.get(job, PARAMS_FILE.name, remote.root / PARAMS_FILE):
        raise ClusterError(
            f"{remote.url}: the cluster does not see there what was written from the submitter's "
            "side; the remote (or storage.url) must be one place for both"
        )


def repro(remote: Remote, arguments: Sequence[str]) -> int:
    """Run `dvc repro`; its exit code. A source that is not seen is taken as it was prepared."""
    path = load_params(remote.root / PARAMS_FILE).data.path
    if path is not None and not glob.glob(str(remote.root / path), recursive=True):  # noqa: PTH207
        remote.freeze("scan")
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    command = [sys.executable, "-m", "dvc", "repro", *arguments]
    environment = os.environ | {"PATH": os.pathsep.join(filter(None, paths))}
    return subprocess.run(command, cwd=remote.root, env=environment, check=False).returncode


def main() -> int:
    """The exit code: that of `dvc repro`, or 1 where the job itself could not go on."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        return run(Path.cwd(), Job(**json.loads(os.environ[VARIABLE])))
    except SelftrainError as error:
        print(f"job: {error}", file=sys.stderr, flush=True)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
