"""On a real head: a job's log and exit code, and that it goes on without its command."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.connect import follow, open_client, start
from cluster.local import LocalCluster
from cluster.remote import Remote
from cluster.submit import settle
from pipeline.params import parse_params
from tests.cluster.project import set_parameters, start_project

ROOT = Path(__file__).parents[2]
PARAMS = parse_params(
    {"data": {"source": "digits", "image_size": 16}, "train": {"steps": 1}}, "params.yaml"
)
pytestmark = [pytest.mark.slow, pytest.mark.nodes, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def client(head: LocalCluster) -> Any:
    return open_client(head.dashboard)


def test_a_jobs_log_and_exit_code_come_through(
    client: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    command = "for i in 1 2 3; do echo line $i; sleep 0.2; done; echo the reason; exit 3"
    job = start(client, entrypoint=command)
    ended = asyncio.run(follow(client, job, said.append))
    asyncio.run(follow(client, job))  # again
    own = ["line 1", "line 2", "line 3", "the reason"]  # Ray's own lines come between them
    assert [line for line in "".join(said).splitlines() if line in own] == own
    assert "".join(said) == capsys.readouterr().out
    start_project(tmp_path / "project")
    set_parameters(tmp_path / "project", 1, None)
    remote = Remote(tmp_path / "project", {"url": str(tmp_path / "remote")})
    assert settle(remote, PARAMS, job, ended) == 3
    assert capsys.readouterr().err == f"submit: job {job} failed with exit code 3: the reason\n"


def test_an_interrupted_command_leaves_its_job_going_until_it_is_stopped(
    client: Any, head: LocalCluster, tmp_path: Path
) -> None:
    """A command that is interrupted or killed leaves its job, which another takes up."""
    folder = tmp_path / "project"
    start_project(folder)
    set_parameters(folder, 1, (tmp_path / "storage").as_uri())
    job = start(client, entrypoint="echo begun; sleep 60")
    command = [sys.executable, "-m", "cluster.submit", "--address", head.dashboard, "--resume", job]
    environment = os.environ | head.environment | {"PYTHONPATH": str(ROOT)}
    for way in (signal.SIGINT, signal.SIGKILL):
        with subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert any(line == "begun\n" for line in process.stdout)
            process.send_signal(way)
            rest = process.stdout.read()
        if way == signal.SIGINT:
            assert process.returncode == 130
            assert f"--address {head.dashboard} --resume {job}" in rest
            assert f"ray job stop --address {head.dashboard} {job}" in rest
        assert not client.get_job_status(job).is_terminal()
    client.stop_job(job)
    stopped, unknown = (
        subprocess.run(
            [*command[:-1], name],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        for name in (job, "nosuch")
    )
    assert (stopped.returncode, stopped.stderr) == (1, f"submit: job {job} was stopped\n")
    said = "submit: --resume nosuch: no such job on the cluster\n"
    assert (unknown.returncode, unknown.stderr) == (2, said)


def test_what_a_broken_connection_showed_is_not_shown_again() -> None:
    class Broken:
        """A log of which each connection shows one piece more."""

        calls = 0

        async def tail_job_logs(self, job: str) -> Any:
            self.calls += 1
            for piece in ("one\n", "two\n", "three\n")[: self.calls]:
                yield piece
            if self.calls < 3:
                raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")

        def get_job_info(self, job: str) -> Any:
            from ray.job_submission import JobDetails, JobStatus

            status = JobStatus.SUCCEEDED if self.calls == 3 else JobStatus.RUNNING
            return JobDetails(type="SUBMISSION", status=status, entrypoint="", submission_id=job)

    said: list[str] = []
    assert asyncio.run(follow(Broken(), "a", said.append)).status.value == "SUCCEEDED"
    assert said == ["one\n", "two\n", "three\n"]
