"""Watch a job until it ends: its log as it is written, over connections that may break."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ClusterError

POLL_SECONDS = 5.0
CALL_SECONDS = 30.0
RETRY_SECONDS = 1.0
LOST_SECONDS = 600.0

Show = Callable[[str], None]


@dataclass(frozen=True)
class Ended:
    """How a job ended: SUCCEEDED, FAILED or STOPPED, the exit code, and Ray's word on it."""

    job: str
    status: str
    exit_code: int
    message: str

    @property
    def succeeded(self) -> bool:
        """Whether the job did all it was to do."""
        return self.status == "SUCCEEDED"


class Log:
    """What was shown of a job's log, so that a second connection shows only the rest."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._shown = 0

    async def read(self, client: Any, job: str) -> None:
        """Show the log until the connection closes."""
        skip = self._shown
        async for chunk in client.tail_job_logs(job):
            text, skip = chunk[skip:], max(0, skip - len(chunk))
            self._shown += len(text)
            if text:
                self._show(text)


async def follow(client: Any, job: str, show: Show) -> Ended:
    """Show the job's log until it ends.

    Raises ClusterError if the cluster could not be reached for ten minutes; the job may go on.
    """
    log, seen_at = Log(show), time.monotonic()
    while True:
        error: BaseException | None = None
        reading = asyncio.create_task(log.read(client, job))
        try:
            ended, error = await _watch(client, job, reading)
        finally:
            reading.cancel()
        if ended is not None:
            return ended
        if error is None:
            seen_at = time.monotonic()
        elif time.monotonic() - seen_at > LOST_SECONDS:
            raise ClusterError(f"the cluster can't be reached: {error}") from None
        await asyncio.sleep(RETRY_SECONDS)


async def _watch(
    client: Any, job: str, reading: asyncio.Task[None]
) -> tuple[Ended | None, BaseException | None]:
    """Wait until the job has ended or the connection is gone: how it ended, what went wrong."""
    while True:
        closed = bool((await asyncio.wait([reading], timeout=POLL_SECONDS))[0])
        error = reading.exception() if closed else None
        if error is not None and not is_lost_connection(error):
            raise ClusterError(f"job {job}: {error}") from error
        try:
            ended = await asyncio.wait_for(asyncio.to_thread(job_end, client, job), CALL_SECONDS)
        except Exception as problem:
            if not is_lost_connection(problem):
                raise ClusterError(f"job {job}: {problem}") from problem
            return None, problem
        if ended is not None:
            await asyncio.wait([reading], timeout=POLL_SECONDS)  # the log's last lines
            return ended, None
        if closed:
            return None, error


def job_end(client: Any, job: str) -> Ended | None:
    """How the job ended; None while it goes on."""
    details = client.get_job_info(job)
    if not details.status.is_terminal():
        return None
    status = details.status.value
    code = details.driver_exit_code
    if code is None:
        code = 0 if status == "SUCCEEDED" else 1
    return Ended(job, status, int(code), str(details.message or ""))


def is_lost_connection(error: BaseException) -> bool:
    """Whether trying again may help."""
    import aiohttp

    lost = (OSError, asyncio.TimeoutError, aiohttp.ClientError)
    return isinstance(error, lost) or "WebSocket" in str(error) or "status code 5" in str(error)
