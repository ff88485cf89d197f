"""On a real head: the probe, a job's log and exit code, Ctrl-C with nobody to ask."""

from __future__ import annotations

import asyncio
import os
import pty
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.connect import check_versions, probe, versions_here
from cluster.follow import Ended, follow
from cluster.remote import Remote
from cluster.session import Session, asked_to_stop, failure_words, printer
from cluster.submit import known_job
from pipeline.errors import ClusterError, ParameterError
from tests.cluster.conftest import Head

pytestmark = [pytest.mark.slow, pytest.mark.nodes, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def client(head: Head) -> Any:
    from ray.job_submission import JobSubmissionClient

    bearer = f"Bearer {head.token_file.read_text()}"
    return JobSubmissionClient(head.address, headers={"Authorization": bearer})


def test_the_probe_tells_versions_and_paths(client: Any, tmp_path: Path) -> None:
    absent, before = str(tmp_path / "absent"), len(client.list_jobs())
    facts = probe(client, [str(tmp_path), absent])
    assert list(facts.paths) == [str(tmp_path)]
    check_versions(versions_here(), facts.versions)
    with pytest.raises(ClusterError, match=r"torch .* \(here 0\.1\)"):
        check_versions({**versions_here(), "torch": "0.1"}, facts.versions)
    assert len(client.list_jobs()) == before  # it has left nothing


def test_a_jobs_log_and_exit_code_come_through(client: Any) -> None:
    said: list[str] = []
    command = "for i in 1 2 3; do echo line $i; sleep 0.2; done; echo the reason; exit 3"
    job = client.submit_job(entrypoint=command)
    ended = asyncio.run(follow(client, job, said.append))
    again: list[str] = []
    assert asyncio.run(follow(client, job, again.append)) == ended
    assert (ended.status, ended.exit_code) == ("FAILED", 3)
    assert failure_words(ended, None) == "failed with exit code 3: the reason"
    assert "line 1\nline 2\nline 3\nthe reason\n" in "".join(said)
    assert "".join(said) == "".join(again)


def test_interrupted_without_a_terminal_the_job_goes_on(
    client: Any, head: Head, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = client.submit_job(entrypoint="sleep 60")
    session = Session(client, head.address, Remote(tmp_path, {"url": "x"}), None)
    session.running[job] = job
    assert session.interrupted() == 130
    assert f"--address {head.address} --resume {job}" in capsys.readouterr().out
    assert not client.get_job_status(job).is_terminal()
    client.stop_job(job)
    deadline = time.monotonic() + 60
    while not client.get_job_status(job).is_terminal() and time.monotonic() < deadline:
        time.sleep(0.2)
    ended = asyncio.run(follow(client, job, lambda text: None))
    assert failure_words(ended, None) == "was stopped"


def test_only_jobs_of_a_submission_are_resumed(client: Any) -> None:
    with pytest.raises(ParameterError, match="--resume nosuch: no such job on the cluster"):
        known_job(client, "nosuch")


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
    assert asyncio.run(follow(Broken(), "a", said.append)) == Ended("a", "SUCCEEDED", 0, "")
    assert said == ["one\n", "two\n", "three\n"]


def test_a_named_log_comes_in_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show = printer("wide")
    for piece in ("on", "e\ntw", "o\n"):
        show(piece)
    assert capsys.readouterr().out == "wide | one\nwide | two\n"


@pytest.mark.parametrize(("typed", "stops"), [("y\n", True), ("\n", False), ("n\n", False)])
def test_at_a_terminal_the_user_says_whether_to_stop(
    typed: str, stops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, terminal = pty.openpty()
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        os.write(ours, typed.encode())
        assert asked_to_stop(2) is stops
    os.close(ours)
