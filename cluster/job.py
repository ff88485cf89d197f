"""What runs on the cluster: `dvc repro` in a copy of what was sent, and its results put away.

python -m cluster.job        in the folder that Ray has unpacked; .selftrain/request.json says what
"""

from __future__ import annotations

import glob
import os
import re
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
from cluster.results import send
from pipeline.errors import ClusterError, SelftrainError
from pipeline.files import read_json, write_json
from pipeline.params import PARAMS_FILE, load_params
from pipeline.progress import say
from pipeline.tracking.tracker import drain, hold_spools

REQUEST = ".selftrain/request.json"
HELLO = "hello"
DRAIN_SECONDS = 60.0
STAGE_LINE = re.compile(r"^(Running stage|Stage) '([^']+)'")
TERMINATED = 143


@dataclass(frozen=True)
class Request:
    """What a job is to do: its id, DVC's arguments, the remote's settings, the commit.

    `held`: no tracking server is known, the runs are carried back; `storage_url`: storage that
    all nodes see, where the work is done if it is a folder.
    """

    job: str
    arguments: Sequence[str]
    settings: Mapping[str, Any]
    commit: str
    held: bool
    storage_url: str | None = None

    def write(self, root: Path) -> None:
        """Write it to where the job looks."""
        write_json(root / REQUEST, asdict(self))


def read_request(root: Path) -> Request:
    """The request under `root`; raises ClusterError where there is none."""
    path = root / REQUEST
    if not path.exists():
        raise ClusterError(f"{path}: not there; cluster.submit writes it and starts this")
    return Request(**read_json(path))


def work_folder(request: Request) -> Path:
    """A folder for this job alone: on the shared file system where storage.url names one."""
    shared = as_path(request.storage_url or "")
    if shared.startswith("/"):
        folder = Path(shared) / "work" / request.job
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    return Path(tempfile.mkdtemp(prefix="selftrain-"))


def run(sent: Path) -> int:
    """Do what was asked; the exit code of `dvc repro`."""
    request = read_request(sent)
    folder = work_folder(request)
    done = False
    try:
        shutil.copytree(sent, folder, dirs_exist_ok=True, symlinks=True)
        remote = Remote(folder, request.settings, without_git=True)
        check_seen(remote, request.job, folder)
        if request.held:
            hold_spools(folder)
        remote.pull()
        keep_unseen_source(remote, folder)
        code = repro(folder, request, remote.count_stages())
        if not request.held:
            drain(folder, DRAIN_SECONDS)
        say("job: sending the results")
        remote.push()
        send(folder, remote, request.job)
        done = True
    except SystemExit:  # stopped by the user
        done = True
        raise
    finally:
        if done or not (folder / "dvc.lock").exists():
            shutil.rmtree(folder, ignore_errors=True)
        else:
            say(f"job: what is done lies in {folder} on this node")
    return code


def check_seen(remote: Remote, job: str, folder: Path) -> None:
    """Raise ClusterError unless the cluster sees what the submitter put into the remote."""
    if not remote.get(job, HELLO, folder / ".selftrain" / HELLO):
        raise ClusterError(
            f"{remote.url}: the cluster does not see there what was written from the submitter's "
            "side; the remote (or storage.url) must be one place for both"
        )


def keep_unseen_source(remote: Remote, folder: Path) -> None:
    """Take a source that this node does not see as it was when it was prepared."""
    path = load_params(folder / PARAMS_FILE).data.path
    if path is not None and not glob.glob(str(folder / path), recursive=True):  # noqa: PTH207
        remote.freeze("scan")


def repro(folder: Path, request: Request, stages: int) -> int:
    """Run `dvc repro` with its output passed on and its stages counted; its exit code."""
    command = [sys.executable, "-m", "dvc", "repro", *request.arguments]
    write_local_config(folder)
    total = f" of {stages}" if not request.arguments else ""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(request),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    begun: set[str] = set()
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
            if (found := STAGE_LINE.match(line)) and found[2] not in begun:
                begun.add(found[2])
                say(f"job: stage {len(begun)}{total}: {found[2]}")
        return process.wait()
    except BaseException:
        process.terminate()
        raise


def write_local_config(folder: Path) -> None:
    """Let DVC work without .git in `folder`."""
    path = folder / ".dvc" / "config.local"
    path.write_text("[core]\n    no_scm = true\n", encoding="utf-8")


def environment(request: Request) -> dict[str, str]:
    """The stages' environment: this Python first, and the commit that the copy can't tell."""
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return os.environ | {
        "PATH": os.pathsep.join(filter(None, paths)),
        "SELFTRAIN_COMMIT": request.commit,
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def main() -> int:
    """The exit code: that of `dvc repro`, or 1 where the job itself could not go on."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        return run(Path.cwd())
    except SelftrainError as error:
        print(f"job: {error}", file=sys.stderr, flush=True)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
