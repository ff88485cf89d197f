"""Run the pipeline on a Ray cluster, and have its results here as if it had run here.

python -m cluster.submit --address http://HEAD:8265 [-- ARGUMENTS OF dvc repro]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.connect import cluster_errors, follow, open_client, probe
from cluster.job import Job
from cluster.package import MIB, copy_revision, git, revision_to_send, zip_folder
from cluster.remote import Remote, find_remote, public_settings
from pipeline.errors import ClusterError, ParameterError, SelftrainError
from pipeline.params import PARAMS_FILE, Params, load_params
from pipeline.progress import say

INTERRUPTED = 130


def submit(options: argparse.Namespace, root: Path) -> int:
    """Do what the command line asks; the exit code."""
    params = load_params(root / PARAMS_FILE)
    remote = find_remote(root, params.storage.url)
    client = open_client(options.address)
    if job := options.resume:
        try:
            client.get_job_info(job)
        except RuntimeError:
            raise ParameterError(f"--resume {job}: no such job on the cluster") from None
    else:
        job = send(client, remote, params, options)
    back = f"python -m cluster.submit --address {options.address} --resume {job}"
    if options.detach:
        say(f"{job} goes on; its results: {back}")
        return 0
    try:
        details = asyncio.run(follow(client, job))
    except (KeyboardInterrupt, SelftrainError) as error:
        if isinstance(error, KeyboardInterrupt) and stop_requested():
            with cluster_errors():
                client.stop_job(job)
            say(f"stopped: {job}")
        else:
            say(f"{job} goes on; its results: {back}")
        raise
    return settle(remote, params, job, details)


def send(client: Any, remote: Remote, params: Params, options: argparse.Namespace) -> str:
    """Check, upload and start the run that the options name; the job's id."""
    results = remote.small_outputs()
    revision = revision_to_send(remote.root, results, allow_dirty=options.allow_dirty)
    commit = git(remote.root, "rev-parse", "HEAD").decode().strip()
    job = Job(
        job=f"selftrain-{commit[:8]}-{secrets.token_hex(4)}",
        arguments=options.arguments,
        settings=public_settings(remote.settings),
        storage_url=params.storage.url,
        tracking=shared_tracking(params.tracking.uri),
    )
    with tempfile.TemporaryDirectory(prefix="selftrain-") as temporary:
        folder = Path(temporary) / "repository"
        copy_revision(remote.root, revision, results, folder)
        load_params(folder / PARAMS_FILE)
        package = zip_folder(folder)
        check_cluster(client, remote, params.data.path, folder)
        say(f"pushing what is done here to {remote.url}")
        remote.push()
        remote.put(folder / PARAMS_FILE, job.job, PARAMS_FILE.name)
        say(f"sending {package.stat().st_size / MIB:.1f} MiB as job {job.job}")
        environment = {"working_dir": str(package), "env_vars": job.environment(commit)}
        with cluster_errors():
            client.submit_job(
                entrypoint="python -m cluster.job",
                submission_id=job.job,
                runtime_env=environment,
                entrypoint_num_cpus=options.cpus or None,
                entrypoint_num_gpus=options.gpus or None,
            )
    return job.job


def check_cluster(client: Any, remote: Remote, source: str | None, folder: Path) -> None:
    """Raise unless the cluster has the versions of here and sees the images, or needn't."""
    sent = source is not None and not Path(source).is_absolute() and (folder / source).exists()
    if sent or "://" in (source or ""):
        source = None
    if probe(client, source) or source is None:
        return
    if "prepare" in remote.changed_stages():
        raise ParameterError(
            f"data.path = {source}: not on the cluster; run `dvc repro prepare` here first (what "
            "it writes is sent along), or name a place that the cluster sees by the same path"
        )
    say(f"data.path = {source} is not on the cluster; prepare was done here, and is not repeated")


def settle(remote: Remote, params: Params, job: str, details: Any) -> int:
    """Take the results of a job that has ended and say what came of it; the exit code: the job's.

    Raises ClusterError for a job that was stopped.
    """
    brought = remote.take_results(job, params.tracking.uri)
    status, code = details.status.value, int(details.driver_exit_code or 1)
    if status == "STOPPED":
        raise ClusterError(f"job {job} was stopped")
    if status == "FAILED":
        lines = str(details.message or "").strip().splitlines() or ["no message"]
        here = "; what it finished is here" if brought else ""
        print(f"submit: job {job} failed with exit code {code}: {lines[-1]}{here}", file=sys.stderr)
        return code
    changed = remote.changed_stages()
    state = f"dvc status: {', '.join(changed)} changed" if changed else "up to date"
    none = f"no results in {remote.url}; they were brought back before"
    say(f"job {job}: {brought or none}; {state}")
    return 0


def stop_requested() -> bool:
    """Whether someone at a terminal wants the job to stop; with nobody there it goes on."""
    if not sys.stdin.isatty():
        return False
    try:
        answer = input("\nStop the job on the cluster? [y/N: it goes on without this command] ")
    except (EOFError, KeyboardInterrupt):
        return False
    return answer.strip().lower() in ("y", "yes")


def shared_tracking(uri: str | None) -> str | None:
    """MLFLOW_TRACKING_URI or tracking.uri, if that is a server; a file or database is not."""
    chosen = os.environ.get("MLFLOW_TRACKING_URI") or uri or ""
    return chosen if chosen.startswith(("http://", "https://")) else None


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; raises ParameterError for those that exclude each other."""
    parser = argparse.ArgumentParser(prog="python -m cluster.submit", description=__doc__)
    parser.add_argument("--address", required=True, help="URL of the dashboard, http://HEAD:8265")
    parser.add_argument("--detach", action="store_true", help="start the job and leave it")
    parser.add_argument("--resume", metavar="ID", help="take up a job again")
    parser.add_argument("--allow-dirty", action="store_true", help="send tracked files as they are")
    parser.add_argument("--cpus", type=float, default=0.0, help="held by the job's own process")
    parser.add_argument("--gpus", type=float, default=0.0, help="held by the job's own process")
    parser.add_argument("arguments", nargs="*", help="after --: arguments of dvc repro")
    options = parser.parse_args(arguments)
    if options.resume and (options.detach or options.arguments):
        raise ParameterError("--resume takes up a job as it is: no --detach or arguments")
    if options.cpus < 0 or options.gpus < 0:
        raise ParameterError("--cpus and --gpus must be 0 or more")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: the job's; 2 for a mistake in what was asked, 1 where the cluster fails."""
    try:
        return submit(parse(arguments), Path.cwd())
    except SelftrainError as error:
        print(f"submit: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
