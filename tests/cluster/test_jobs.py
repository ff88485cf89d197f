"""On a real head: the probe, a job's log and exit code, Ctrl-C with nobody to ask."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.connect import follow, probe
from cluster.remote import Remote
from cluster.submit import check_cluster, settle, stop_requested
from pipeline.errors import ClusterError, ParameterError
from pipeline.params import parse_params
from tests.cluster.conftest import Head
from tests.cluster.project import run, set_parameters, start_project

ROOT = Path(__file__).parents[2]
PARAMS = parse_params(
    {"data": {"source": "digits", "image_size": 16}, "train": {"steps": 1}}, "params.yaml"
)
pytestmark = [pytest.mark.slow, pytest.mark.nodes, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def client(head: Head) -> Any:
    from ray.job_submission import JobSubmissionClient

    bearer = f"Bearer {head.token_file.read_text()}"
    return JobSubmissionClient(head.address, headers={"Authorization": bearer})


def test_the_probe_sees_paths_and_compares_versions(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(client.list_jobs())
    assert probe(client, str(tmp_path))
    assert not probe(client, str(tmp_path / "absent"))
    assert not probe(client)
    assert len(client.list_jobs()) == before  # it has left nothing
    monkeypatch.setattr("platform.python_version", lambda: "3.1.0")
    with pytest.raises(ClusterError, match=r"the cluster has python 3\..* \(here 3\.1\.0\); both"):
        probe(client)


def test_images_that_the_cluster_does_not_see_must_be_prepared(
    client: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = tmp_path / "sent"
    (sent / "images").mkdir(parents=True)
    project = tmp_path / "project"
    start_project(project)
    set_parameters(project, 1, None)
    (project / "dvc.yaml").write_text("stages:\n  prepare: {cmd: touch out, outs: [out]}\n")
    remote = Remote(project, {"url": str(tmp_path / "remote")})
    for path in ("images", "s3://bucket/images", str(sent / "images"), None):  # sent, or seen
        check_cluster(client, remote, path, sent)
    with pytest.raises(ParameterError, match=r"data\.path = unseen: not on the cluster; run `dvc"):
        check_cluster(client, remote, "unseen", sent)
    run(project, "dvc", "repro", "--quiet")
    check_cluster(client, remote, "unseen", sent)
    assert "prepare was done here, and is not repeated" in capsys.readouterr().out


def test_a_jobs_log_and_exit_code_come_through(
    client: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    command = "for i in 1 2 3; do echo line $i; sleep 0.2; done; echo the reason; exit 3"
    job = client.submit_job(entrypoint=command)
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


def test_interrupted_without_a_terminal_the_job_goes_on_until_it_is_stopped(
    client: Any, head: Head, tmp_path: Path
) -> None:
    """A command that is interrupted or killed leaves its job, which another takes up."""
    folder = tmp_path / "project"
    start_project(folder)
    set_parameters(folder, 1, (tmp_path / "storage").as_uri())
    job = client.submit_job(entrypoint="echo begun; sleep 60")
    command = [sys.executable, "-m", "cluster.submit", "--address", head.address, "--resume", job]
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
            assert f"--address {head.address} --resume {job}" in rest
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


@pytest.mark.parametrize(("typed", "stops"), [("y\n", True), ("\n", False), ("n\n", False)])
def test_at_a_terminal_the_user_says_whether_to_stop(
    typed: str, stops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, terminal = pty.openpty()
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        os.write(ours, typed.encode())
        assert stop_requested() is stops
    os.close(ours)
