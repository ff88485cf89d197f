"""Run the pipeline on a Ray cluster, and have its results here as if it had run here.

selftrain submit --address http://HEAD:8265 [-- ARGUMENTS OF dvc repro]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from cluster.connect import follow, open_client, start
from cluster.job import own_versions, tracking_server
from cluster.package import MIB, copy_to_send, git, zip_folder
from cluster.remote import Remote, find_remote
from pipeline.errors import ClusterError, ParameterError, SelftrainError
from pipeline.params import PARAMS_FILE, Params, load_params
from pipeline.program import copy_program
from pipeline.progress import say
from pipeline.workflow.command import INTERRUPTED, command_parser, run_command
from pipeline.workflow.source import say_demonstration


def say_goes_on(address: str, job: str) -> None:
    """Say that a job goes on, how to have its results, and how to stop it."""
    say(f"{job} goes on")
    say(f"  its results: selftrain submit --address {address} --resume {job}")
    say(f"  to stop it: ray job stop --address {address} {job}")


def submit(options: argparse.Namespace) -> None:
    """Do what the command line asks, and exit with the job's code."""
    if options.resume and (options.detach or options.arguments):
        raise ParameterError("--resume takes up a job as it is: no --detach or arguments")
    if options.cpus < 0 or options.gpus < 0:
        raise ParameterError("--cpus and --gpus must be 0 or more")
    root = Path.cwd()
    params = load_params(root / PARAMS_FILE)
    server = tracking_server(params.tracking.uri)
    remote = find_remote(root, params.storage.url)
    client = open_client(options.address)
    if job := options.resume:
        try:
            client.get_job_info(job)
        except RuntimeError:
            raise ParameterError(f"--resume {job}: no such job on the cluster") from None
    else:
        say_demonstration("submit", params.data)
        job = send(client, remote, server, options)
    if options.detach:
        say_goes_on(options.address, job)
        return
    try:
        details = asyncio.run(follow(client, job))
    except (KeyboardInterrupt, SelftrainError) as error:
        say_goes_on(options.address, job)
        if isinstance(error, KeyboardInterrupt):
            sys.exit(INTERRUPTED)
        raise
    sys.exit(settle(remote, params, job, details))


def send(client: Any, remote: Remote, server: str | None, options: argparse.Namespace) -> str:
    """Upload and start the run that the options name, logged to `server`; the job's id."""
    results = remote.small_outputs()
    commit = git(remote.root, "rev-parse", "--verify", "HEAD").decode().strip()
    job = f"selftrain-{commit[:8]}-{secrets.token_hex(4)}"
    entrypoint = ["python", "-m", "cluster.job", job, json.dumps(own_versions()), "--"]
    environment = {"SELFTRAIN_COMMIT": commit, "DVC_NO_ANALYTICS": "1"}
    environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
    if server:
        environment["MLFLOW_TRACKING_URI"] = server
    with tempfile.TemporaryDirectory(prefix="selftrain-") as temporary:
        folder = Path(temporary) / "repository"
        copy_to_send(remote.root, results, folder, allow_dirty=options.allow_dirty)
        copy_program(folder)
        load_params(folder / PARAMS_FILE)
        package = zip_folder(folder)
        say(f"pushing what is done here to {remote.url}")
        remote.push()
        remote.put(folder / PARAMS_FILE, job, PARAMS_FILE.name)
        say(f"sending {package.stat().st_size / MIB:.1f} MiB as job {job}")
        return start(
            client,
            entrypoint=shlex.join([*entrypoint, *options.arguments]),
            submission_id=job,
            runtime_env={"working_dir": str(package), "env_vars": environment},
            entrypoint_num_cpus=options.cpus or None,
            entrypoint_num_gpus=options.gpus or None,
        )


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


def main() -> int:
    """The exit code: the job's; 2 for a mistake in what was asked, 1 where the cluster fails."""
    parser = command_parser("submit", __doc__)
    parser.add_argument("--address", required=True, help="URL of the dashboard, http://HEAD:8265")
    parser.add_argument("--detach", action="store_true", help="start the job and leave it")
    parser.add_argument("--resume", metavar="ID", help="take up a job again")
    parser.add_argument("--allow-dirty", action="store_true", help="send tracked files as they are")
    parser.add_argument("--cpus", type=float, default=0.0, help="held by the job's own process")
    parser.add_argument("--gpus", type=float, default=0.0, help="held by the job's own process")
    parser.add_argument("arguments", nargs="*", help="after --: arguments of dvc repro")
    return run_command("submit", parser, submit)


if __name__ == "__main__":
    sys.exit(main())
