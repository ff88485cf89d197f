"""Reach a Ray cluster's job server, follow a job there, see whether it can run what is here."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException
from importlib import metadata
from typing import Any

from pipeline.errors import ClusterError, ParameterError
from pipeline.ray.quiet import quiet_ray

ANSWER_SECONDS, PROBE_SECONDS, SILENT_SECONDS, LOST_SECONDS = 10.0, 120.0, 30.0, 600.0
SAME = ("ray", "torch")  # must be alike, as Python; of the others any version will do
NEEDED = ("dvc", "mlflow", "pyarrow", "timm", "torchvision", "pydantic", "scikit-learn")
PREFERRED_BY_RAY = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")  # to the address it is given
PROBE = """
import glob, json, platform, sys
from importlib import metadata
names, path = json.loads(sys.argv[1])
installed = {each.metadata["Name"].lower(): each.version for each in metadata.distributions()}
versions = {name: installed.get(name) for name in names} | {"python": platform.python_version()}
print("selftrain:" + json.dumps([versions, bool(path and glob.glob(path))]))
"""
SHOW = partial(print, end="", flush=True)  # a piece of a log as it comes


def open_client(address: str) -> Any:
    """Ray's client of the job server at `address`.

    Raises ParameterError for an address of another form or a token that is missing or wrong, and
    ClusterError if no job server answers there.
    """
    if not address.startswith(("http://", "https://")):
        raise ParameterError(
            f"--address {address}: must be the URL of the cluster's dashboard, as http://HEAD:8265"
        )
    try:  # Ray's client would wait for ever
        urllib.request.urlopen(address, timeout=ANSWER_SECONDS).close()  # nosec B310
    except urllib.error.HTTPError:
        pass
    except (OSError, ValueError, HTTPException) as error:
        raise ClusterError(f"{address} does not answer ({error})") from None
    for name in PREFERRED_BY_RAY:
        os.environ.pop(name, None)
    quiet_ray()
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in ("dashboard.modules.job.sdk", "dashboard.modules.dashboard_sdk"):
        logging.getLogger(f"ray.{name}").setLevel(logging.ERROR)
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise ParameterError(
            f"{address}: {first_line(error)}; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to "
            "the file with the cluster's token"
        ) from None
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise ClusterError(f"{address}: not Ray's job server ({first_line(error)})") from None


@contextmanager
def cluster_errors() -> Iterator[None]:
    """What Ray's client raises in the block becomes a ClusterError of one line."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise ClusterError(f"the cluster: {first_line(error)}") from None


def first_line(error: Exception) -> str:
    """The first line of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


async def follow(client: Any, job: str, show: Callable[[str], None] = SHOW) -> Any:
    """Show the job's log until it ends; Ray's details of it.

    A connection that breaks, or is silent, is made again. Raises ClusterError if the cluster could
    not be reached for ten minutes; the job may go on.
    """
    import aiohttp

    shown, reached = 0, time.monotonic()
    while True:
        try:
            skip, log = shown, client.tail_job_logs(job)
            try:
                while True:
                    chunk = await asyncio.wait_for(anext(log), SILENT_SECONDS)
                    text, skip = chunk[skip:], max(0, skip - len(chunk))
                    shown += len(text)
                    if text:
                        show(text)
            except (StopAsyncIteration, TimeoutError):
                asking = asyncio.to_thread(client.get_job_info, job)
                details = await asyncio.wait_for(asking, SILENT_SECONDS)
            if details.status.is_terminal():
                return details
            reached = time.monotonic()
        except (OSError, aiohttp.ClientError, RuntimeError) as error:
            refused = "status code 4" in str(error)
            if refused or time.monotonic() - reached > LOST_SECONDS:
                raise ClusterError(f"the cluster can't be reached: {first_line(error)}") from None
        await asyncio.sleep(1)


def probe(client: Any, path: str | None = None) -> bool:
    """Whether the cluster's head sees `path`, by a tiny job.

    Raises ClusterError unless it has the versions of here, and the job ends within 120 seconds.
    """
    question = shlex.quote(json.dumps([[*SAME, *NEEDED], path]))
    log: list[str] = []
    with cluster_errors():
        job = _start(client, f"python -c {shlex.quote(PROBE)} {question}")
        try:
            asyncio.run(asyncio.wait_for(follow(client, job, log.append), PROBE_SECONDS))
        except TimeoutError:
            client.stop_job(job)
            raise ClusterError(
                f"the cluster did not run a tiny job within {PROBE_SECONDS:.0f} s: "
                "has it a node that is free?"
            ) from None
        client.delete_job(job)
    lines = "".join(log).strip().splitlines() or ["no output"]
    answer = next((line for line in lines if line.startswith("selftrain:")), None)
    if answer is None:
        raise ClusterError(f"the cluster can't run Python: {lines[-1]}")
    versions, sees = json.loads(answer.removeprefix("selftrain:"))
    here = {name: metadata.version(name) for name in (*SAME, *NEEDED)}
    check_versions(here | {"python": platform.python_version()}, versions)
    return bool(sees)


def _start(client: Any, entrypoint: str) -> str:
    """Start a job; a head that has just come up takes none for some seconds."""
    until = time.monotonic() + PROBE_SECONDS
    while True:
        try:
            return str(client.submit_job(entrypoint=entrypoint))
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(1)


def check_versions(here: Mapping[str, str], there: Mapping[str, str | None]) -> None:
    """Raise ClusterError unless Python (minor), Ray and torch are the same and nothing is missing.

    Builds of one torch for CPU and for GPU (2.9.0+cpu, 2.9.0+cu128) count as the same.
    """
    wrong = [
        f"{name} {found or 'none'} (here {version})"
        for name, version in here.items()
        if (found := there.get(name)) is None
        or (name in SAME and found.split("+")[0] != version.split("+")[0])
        or (name == "python" and found.split(".")[:2] != version.split(".")[:2])
    ]
    if wrong:
        raise ClusterError(
            f"the cluster has {', '.join(wrong)}; both sides need the same Python and the versions "
            "of requirements.lock, on every node"
        )
