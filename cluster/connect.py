"""Reach a Ray cluster's job server, start a job there and follow it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from typing import Any

from pipeline.addresses import check_address
from pipeline.errors import ClusterError, ParameterError
from pipeline.ray.session import quiet_ray

ANSWER_SECONDS, START_SECONDS, SILENT_SECONDS, LOST_SECONDS = 10.0, 120.0, 30.0, 600.0
PREFERRED_BY_RAY = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")  # to the address it is given
SHOW = partial(print, end="", flush=True)  # a piece of a log as it comes


def open_client(address: str) -> Any:
    """Ray's client of the job server at `address`.

    Raises ParameterError for an address of another form or a token that is missing or wrong, and
    ClusterError if no job server answers there.
    """
    check_address("--address", address)
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


def start(client: Any, **job: Any) -> str:
    """Submit a job, as `JobSubmissionClient.submit_job` does; its id. Raises ClusterError.

    A head that has just come up takes none for some seconds.
    """
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            return str(client.submit_job(**job))
        except (OSError, RuntimeError) as error:
            if "No available agent" not in str(error) or time.monotonic() > until:
                raise ClusterError(f"the cluster: {first_line(error)}") from None
        time.sleep(1)
