"""Reach a Ray cluster's job server, and see whether the cluster can run what is here."""

from __future__ import annotations

import json
import logging
import os
import platform
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any
from urllib.parse import urlsplit

from pipeline.errors import ClusterError, ParameterError
from pipeline.ray.quiet import quiet_ray

ANSWER_SECONDS = 10.0
PROBE_SECONDS = 120.0
POLL_SECONDS = 0.5
SAME = ("python", "ray", "torch")  # must be alike; of the others any version will do
NEEDED = ("dvc", "mlflow", "pyarrow", "timm", "torchvision", "pydantic", "scikit-learn")
SETS_ADDRESS = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")  # Ray would prefer these to --address
PROBE = """
import glob, json, platform, sys
from importlib import metadata
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
names, paths = json.loads(sys.argv[1])
versions = {name: version(name) for name in names}
versions["python"] = platform.python_version()
there = [path for path in paths if glob.glob(path)]
print("selftrain:" + json.dumps({"versions": versions, "paths": there}))
"""


@dataclass(frozen=True)
class Facts:
    """What a cluster's head has: versions by package, None for a missing one; which paths."""

    versions: Mapping[str, str | None]
    paths: Sequence[str] = ()


def open_client(address: str) -> Any:
    """Ray's client of the job server at `address`.

    Raises ParameterError for an address of another form or a token that is missing or wrong, and
    ClusterError if nothing answers there.
    """
    check_address(address)
    wants_token = _ask(address)
    for name in SETS_ADDRESS:
        os.environ.pop(name, None)
    quiet_ray()
    if wants_token and os.environ.get("RAY_AUTH_MODE") != "token":
        raise ParameterError(f"{address} wants a token: {_token_advice()}")
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for module in ("job.sdk", "dashboard_sdk"):
        logging.getLogger(f"ray.dashboard.modules.{module}").setLevel(logging.ERROR)
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        missing = "wrong" if "invalid" in str(error).lower() else "missing"
        raise ParameterError(f"{address}: the token is {missing}: {_token_advice()}") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(f"{address}: {_first_line(error)}") from None


def check_address(address: str) -> None:
    """Raise ParameterError unless `address` is the URL of a job server."""
    parts = urlsplit(address)
    try:
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ParameterError(
            f"--address {address}: must be the URL of the cluster's dashboard, as http://HEAD:8265"
        )


def probe(client: Any, paths: Sequence[str] = ()) -> Facts:
    """Ask the cluster's head, by a tiny job, for its versions and for the `paths` it sees.

    Raises ClusterError if the job does not come to an end within 120 seconds.
    """
    names = [name for name in (*SAME, *NEEDED) if name != "python"]
    question = json.dumps([names, list(paths)])
    entrypoint = f"python -c {shlex.quote(PROBE)} {shlex.quote(question)}"
    try:
        job = _started(client, entrypoint)
        log = _finished_log(client, job)
        client.delete_job(job)
    except (OSError, RuntimeError) as error:
        raise ClusterError(f"the cluster takes no job: {_first_line(error)}") from None
    for line in log.splitlines():
        if line.startswith("selftrain:"):
            answer = json.loads(line.removeprefix("selftrain:"))
            return Facts(answer["versions"], answer["paths"])
    last = (log.strip().splitlines() or ["no output"])[-1]
    raise ClusterError(f"the cluster can't run Python: {last}")


def ask(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a method of the client answers; raises ClusterError for what went wrong."""
    try:
        return call(*arguments)
    except (OSError, RuntimeError) as error:
        raise ClusterError(f"the cluster: {_first_line(error)}") from None


def versions_here() -> Mapping[str, str | None]:
    """The versions that a cluster's must be like."""
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in SAME if name != "python"
    }


def check_versions(here: Mapping[str, str | None], there: Mapping[str, str | None]) -> None:
    """Raise ClusterError unless Python (minor), Ray and torch are the same and nothing is missing.

    Builds of one torch for CPU and for GPU (2.9.0+cpu, 2.9.0+cu128) count as the same.
    """
    differing = [
        f"{name} {there.get(name) or 'none'} (here {here[name]})"
        for name in SAME
        if comparable(name, here[name]) != comparable(name, there.get(name))
    ]
    missing = [name for name in NEEDED if name in there and there[name] is None]
    if differing:
        raise ClusterError(
            f"the cluster has {', '.join(differing)}; both sides need the versions of "
            "requirements.lock and the same Python"
        )
    if missing:
        raise ClusterError(
            f"the cluster lacks {', '.join(missing)}; install requirements.lock on every node"
        )


def comparable(name: str, version: str | None) -> str | None:
    """The part of a version that has to agree."""
    if version is None:
        return None
    if name == "python":
        return ".".join(version.split(".")[:2])
    return version.split("+")[0]


def _ask(address: str) -> bool:
    """Whether the server wants a token; raises ClusterError unless Ray's job server answers."""
    url = f"{address.rstrip('/')}/api/version"
    try:
        # Of http or https: check_address lets no other scheme through.
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:  # nosec B310
            if "ray_version" not in json.loads(answer.read()):
                raise ValueError("no version in its answer")
            return False
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return True
        raise ClusterError(f"{address}: not Ray's job server ({error})") from None
    except urllib.error.URLError as error:
        raise ClusterError(f"{address} does not answer ({_reason(error.reason)})") from None
    except ValueError:
        raise ClusterError(f"{address}: not Ray's job server") from None
    except OSError as error:
        raise ClusterError(f"{address} does not answer ({_reason(error)})") from None


def _started(client: Any, entrypoint: str) -> str:
    """Start a job; a head that has just come up takes none for some seconds."""
    deadline = time.monotonic() + PROBE_SECONDS
    while True:
        try:
            return str(client.submit_job(entrypoint=entrypoint))
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


def _finished_log(client: Any, job: str) -> str:
    deadline = time.monotonic() + PROBE_SECONDS
    while not client.get_job_status(job).is_terminal():
        if time.monotonic() > deadline:
            client.stop_job(job)
            raise ClusterError(
                f"the cluster did not start a tiny job within {PROBE_SECONDS:.0f} s: "
                "has it a node that is free?"
            )
        time.sleep(POLL_SECONDS)
    return str(client.get_job_logs(job))


def _token_advice() -> str:
    return (
        "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the file with the cluster's token "
        "(or RAY_AUTH_TOKEN; ~/.ray/auth_token is read by itself)"
    )


def _reason(error: object) -> str:
    return str(getattr(error, "strerror", None) or error)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
