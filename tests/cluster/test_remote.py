"""The remote through which results travel: which it is, what of it travels, a job's small files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cluster.job import Request, check_seen, read_request, work_folder
from cluster.remote import Remote, as_path, find_remote, public_settings
from cluster.results import pack, put_in_place, unpack
from pipeline.errors import ClusterError, ParameterError
from pipeline.tracking.tracker import hold_spools

DVC_YAML = """
stages:
  make:
    cmd: printf data > data.txt && printf 1 > figure.json
    outs: [data.txt]
    metrics: [figure.json: {cache: false}]
"""


def dvc(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["dvc", *arguments], cwd=root, check=True, capture_output=True, text=True
    ).stdout


def made(root: Path) -> Path:
    """A repository of DVC's with one stage; what `dvc init --no-scm` makes, without its seconds."""
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc" / "config").write_text("[core]\n    no_scm = True\n    analytics = false\n")
    (root / "dvc.yaml").write_text(DVC_YAML)
    return root


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return made(tmp_path / "repository")


def test_the_repositorys_remote_goes_before_storage(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"set storage\.url in params\.yaml"):
        find_remote(repository, None)
    assert find_remote(repository, "file:///srv/all%20of%20us/").url == "/srv/all of us/dvc"
    assert find_remote(repository, "s3://bucket/x").url == "s3://bucket/x/dvc"
    (tmp_path / "store").mkdir()
    dvc(repository, "remote", "add", "--default", "store", "../store")
    assert find_remote(repository, "s3://bucket/x").url == str(tmp_path / "store")


def test_a_remotes_secrets_do_not_travel() -> None:
    settings = {
        "url": "s3://bucket",
        "endpointurl": "http://minio",
        "access_key_id": "a",
        "secret_access_key": "b",
        "session_token": "c",
        "password": "d",
        "connection_string": "e",
    }
    assert public_settings(settings) == {"url": "s3://bucket", "endpointurl": "http://minio"}
    assert "secret" not in repr(Remote(Path(), settings))
    assert as_path("s3://bucket/x") == "s3://bucket/x"


def test_data_goes_through_it_and_dvc_is_content(repository: Path, tmp_path: Path) -> None:
    settings = {"url": str(tmp_path / "store")}
    there = Remote(repository, settings, without_git=True)
    dvc(repository, "repro", "--quiet")
    assert there.small_outputs() == ["dvc.lock", "figure.json"]
    assert (there.count_stages(), there.changed_stages()) == (1, [])
    there.push()
    archive = tmp_path / "results"
    pack(repository, there.small_outputs(), archive)
    there.put(archive, "job", "results")

    other = made(tmp_path / "other")
    here = Remote(other, settings, without_git=True)
    assert here.changed_stages() == ["make"]
    assert here.get("job", "results", other / "came")
    names = unpack(other / "came", tmp_path / "unpacked")
    assert names == ["dvc.lock", "figure.json"]
    put_in_place(tmp_path / "unpacked", names, other)
    here.pull()
    assert (other / "data.txt").read_text() == "data"
    assert here.changed_stages() == []
    here.forget("job")
    assert not here.get("job", "results", other / "came")


def test_a_remote_that_can_not_be_used_is_said_in_one_line(repository: Path) -> None:
    with pytest.raises(ClusterError, match=r"^[^\n]+nosuch://[^\n]+$"):
        Remote(repository, {"url": "nosuch://x"}, without_git=True).push()


def test_a_remote_that_is_another_place_there_is_found_out(
    repository: Path, tmp_path: Path
) -> None:
    remote = Remote(repository, {"url": str(tmp_path / "mine")}, without_git=True)
    with pytest.raises(ClusterError, match="does not see there what was written"):
        check_seen(remote, "job", repository)
    (tmp_path / "hello").write_text("job")
    remote.put(tmp_path / "hello", "job", "hello")
    check_seen(remote, "job", repository)


def test_a_request_is_read_as_written_and_works_on_shared_storage(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="submit writes it"):
        read_request(tmp_path)
    request = Request("a", ["--force"], {"url": "x"}, "c0ffee", True, tmp_path.as_uri())
    request.write(tmp_path)
    assert read_request(tmp_path) == request
    assert work_folder(request) == tmp_path / "work" / "a"


def test_held_spools_travel_with_the_results(repository: Path, tmp_path: Path) -> None:
    from tests.tracking.tracked import tracked

    hold_spools(repository)
    with tracked(repository) as tracker:
        tracker.metrics({"loss": 1.0}, 1)
    pack(repository, [], tmp_path / "results")
    assert unpack(tmp_path / "results", tmp_path / "unpacked") == []
    assert (tmp_path / "unpacked" / "runs" / "train@0-aa" / "events.jsonl").exists()
