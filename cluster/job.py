"""What runs on the cluster: `dvc repro` in a copy of what was sent, and its results put away.

python -m cluster.job ID VERSIONS [-- ARGUMENTS OF dvc repro]    in the folder that Ray has unpacked
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from cluster.remote import Remote, as_path, find_remote
from pipeline.addresses import address_in
from pipeline.errors import ClusterError, ParameterError
from pipeline.params import PARAMS_FILE, load_params
from pipeline.progress import say
from pipeline.tracking.tracker import drain, hold_spools
from pipeline.workflow.command import run_command

DRAIN_SECONDS = 60.0
TERMINATED = 143


def run(sent: Path, job: str, versions: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Run `dvc repro` with these arguments for the job of this id; its exit code.

    versions: the submitter's. The work is done on shared storage where storage.url is a
    folder; tracked runs are carried back unless a server takes them.
    """
    check_versions(versions, own_versions())
    params = load_params(sent / PARAMS_FILE)
    server = tracking_server(params.tracking.uri)
    folder, kept = work_folder(job, params.storage.url), False
    try:
        shutil.copytree(sent, folder, dirs_exist_ok=True, symlinks=True)
        (folder / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
        remote = find_remote(folder, params.storage.url)
        check_remote(remote, job)
        if server is None:
            hold_spools(folder)
        remote.pull()
        take_prepared(remote)
        code = repro(folder, arguments)
        if server is not None:
            drain(folder, DRAIN_SECONDS)
        kept = True
        remote.put_results(job)
        kept = False
        return code
    finally:
        if kept:
            say(f"job: what is done lies in {folder} on this node")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def own_versions() -> dict[str, str]:
    """The versions that both sides must share: of Python, whose last part may differ, Ray, torch.

    A build of torch (2.9.0+cpu, 2.9.0+cu128) is no part of its version.
    """
    found = {name: metadata.version(name).split("+")[0] for name in ("ray", "torch")}
    return {"python": ".".join(platform.python_version_tuple()[:2])} | found


def check_versions(wanted: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Raise ClusterError unless the cluster's versions are the submitter's."""
    wrong = [f"{n} {found[n]} (not {wanted[n]})" for n in wanted if found[n] != wanted[n]]
    if wrong:
        raise ClusterError(
            f"the cluster has {', '.join(wrong)}; both sides need the same Python and the versions "
            "of requirements.lock, on every node"
        )


def tracking_server(uri: str | None) -> str | None:
    """MLFLOW_TRACKING_URI or tracking.uri, if that is a server; a file or database is not."""
    chosen = address_in("MLFLOW_TRACKING_URI") or uri or ""
    return chosen if chosen.startswith(("http://", "https://")) else None


def work_folder(job: str, storage_url: str | None) -> Path:
    """A folder for this job alone: on the shared file system where storage.url names one."""
    shared = as_path(storage_url or "")
    if not shared.startswith("/"):
        return Path(tempfile.mkdtemp(prefix="selftrain-"))
    folder = Path(shared) / "work" / job
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_remote(remote: Remote, job: str) -> None:
    """Raise ClusterError unless the cluster sees what the submitter put into the remote."""
    if not remote.get(job, PARAMS_FILE.name, remote.root / PARAMS_FILE):
        raise ClusterError(
            f"{remote.url}: the cluster does not see there what was written from the submitter's "
            "side; the remote (or storage.url) must be one place for both"
        )


def take_prepared(remote: Remote) -> None:
    """Have a source that the cluster does not see taken as it was prepared.

    Raises ParameterError where it was not.
    """
    source = load_params(remote.root / PARAMS_FILE).data.path
    if source is None or "://" in source:
        return
    if glob.glob(str(remote.root / source), recursive=True):  # noqa: PTH207
        return
    if "prepare" in remote.changed_stages():
        raise ParameterError(
            f"data.path = {source}: not on the cluster; run `selftrain run prepare` where it is "
            "(what it writes is sent along), or name a place that the cluster sees by the same path"
        )
    remote.freeze("scan")
    say(f"data.path = {source} is not on the cluster; prepare was done before, and is not repeated")


def repro(root: Path, arguments: Sequence[str]) -> int:
    """Run `dvc repro`; its exit code."""
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    command = [sys.executable, "-m", "dvc", "repro", *arguments]
    environment = os.environ | {"PATH": os.pathsep.join(filter(None, paths))}
    return subprocess.run(command, cwd=root, env=environment, check=False).returncode


def main() -> int:
    """The exit code: that of `dvc repro`, or 1 where the job itself could not go on."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    parser = argparse.ArgumentParser(prog="python -m cluster.job", description=__doc__)
    parser.add_argument("job")
    parser.add_argument("versions", type=json.loads)
    parser.add_argument("arguments", nargs="*")
    return run_command("job", parser, lambda args: sys.exit(run(Path.cwd(), **vars(args))))


if __name__ == "__main__":
    sys.exit(main())
