"""The remote through which results travel: which it is, what of it travels, a job's small files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from cluster.job import Job, check_seen, repro, work_folder
from cluster.remote import Remote, as_path, find_remote, public_settings
from pipeline.errors import ClusterError, ParameterError
from pipeline.tracking.spool import all_spools
from pipeline.tracking.tracker import hold_spools
from tests.cluster.project import set_parameters
from tests.tracking.tracked import tracked

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
    set_parameters(root, 1, None)
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


def test_results_go_through_it_and_dvc_is_content(repository: Path, tmp_path: Path) -> None:
    settings = {"url": str(tmp_path / "store")}
    there = Remote(repository, settings)
    dvc(repository, "repro", "--quiet")
    assert there.small_outputs() == ["dvc.lock", "figure.json"]
    assert there.changed_stages() == []
    hold_spools(repository)
    with tracked(repository) as tracker:
        tracker.metrics({"loss": 1.0}, 1)
    there.put_results("job")

    other = made(tmp_path / "other")
    here = Remote(other, settings)
    assert here.changed_stages() == ["make"]
    hold_spools(other)  # what came is not sent on from this test
    brought = "brought back DVC's outputs and 2 files, 1 runs on their way to MLflow"
    assert here.take_results("job", None) == brought
    assert (other / "data.txt").read_text() == "data"
    assert (other / "figure.json").read_text() == "1"
    assert [spool.name for spool in all_spools(other)] == [
        spool.name for spool in all_spools(repository)
    ]
    assert here.changed_stages() == []
    assert here.take_results("job", None) is None  # they are gone from the remote


def test_a_remote_that_can_not_be_used_is_said_in_one_line(repository: Path) -> None:
    with pytest.raises(ClusterError, match=r"^[^\n]+nosuch://[^\n]+$"):
        Remote(repository, {"url": "nosuch://x"}).push()


def test_a_remote_that_is_another_place_there_is_found_out(
    repository: Path, tmp_path: Path
) -> None:
    remote = Remote(repository, {"url": str(tmp_path / "mine")})
    with pytest.raises(ClusterError, match="does not see there what was written"):
        check_seen(remote, "job")
    remote.put(repository / "params.yaml", "job", "params.yaml")
    check_seen(remote, "job")


def test_a_job_works_on_shared_storage_and_knows_its_commit(tmp_path: Path) -> None:
    job = Job("a", ["--force"], {"url": "x"}, tmp_path.as_uri(), None)
    assert work_folder(job) == tmp_path / "work" / "a"
    environment = job.environment("c0ffee")
    assert Job(**json.loads(environment["SELFTRAIN_JOB"])) == job
    assert environment["SELFTRAIN_COMMIT"] == "c0ffee"
    assert "MLFLOW_TRACKING_URI" not in environment


def test_a_source_that_the_cluster_does_not_see_is_taken_as_it_was_prepared(
    repository: Path, tmp_path: Path
) -> None:
    scan = "  scan:\n    cmd: ls images > source.json\n    always_changed: true\n"
    (repository / "dvc.yaml").write_text(f"stages:\n{scan}    outs: [source.json]\n")
    (repository / "params.yaml").write_text(
        "data: {source: folder, path: images, image_size: 16}\ntrain: {steps: 1}\n"
    )
    (repository / "images").mkdir()
    remote = Remote(repository, {"url": str(tmp_path / "store")})
    assert repro(remote, []) == 0
    (repository / "images").rmdir()
    assert repro(remote, ["--quiet"]) == 0
    assert "frozen: true" in (repository / "dvc.yaml").read_text()
