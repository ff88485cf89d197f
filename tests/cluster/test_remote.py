"""The remote through which results travel: which it is, what of it travels, a job's small files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cluster.job import (
    check_remote,
    check_versions,
    own_versions,
    repro,
    take_prepared,
    tracking_server,
    work_folder,
)
from cluster.remote import Remote, find_remote
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


def test_a_remotes_secrets_are_not_shown() -> None:
    assert "secret" not in repr(Remote(Path(), {"url": "s3://bucket", "secret_access_key": "b"}))


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


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        (
            ".dvc/config",
            "[core",
            r"config file error: .*line 1.*; mend \.dvc/config, or take git's",
        ),
        (
            ".dvc/config",
            "[core]\nanalytics = maybe",
            r"expected true or false.*; mend \.dvc/config",
        ),
        ("dvc.yaml", "stages: [", r"dvc\.yaml.*corrupted: .* line 2"),
        ("dvc.yaml", "stages:\n  make:\n    cmd: 5\n    out: [x]", r"dvc\.yaml.*'make'"),
        ("dvc.lock", "stages: 5", r"dvc\.lock.*stages"),
    ],
)
def test_what_dvc_can_not_read_is_said_in_one_line_with_its_cause(
    repository: Path, file: str, text: str, told: str
) -> None:
    (repository / file).write_text(text)
    with pytest.raises(ClusterError, match=rf"^{repository}: [^\n]*{told}"):
        Remote(repository, {}).changed_stages()


def test_a_remote_that_is_another_place_there_is_found_out(
    repository: Path, tmp_path: Path
) -> None:
    remote = Remote(repository, {"url": str(tmp_path / "mine")})
    with pytest.raises(ClusterError, match="does not see there what was written"):
        check_remote(remote, "job")
    remote.put(repository / "params.yaml", "job", "params.yaml")
    check_remote(remote, "job")


def test_a_job_works_on_shared_storage(tmp_path: Path) -> None:
    assert work_folder("a", tmp_path.as_uri()) == tmp_path / "work" / "a"
    own = work_folder("a", "s3://bucket/x")
    own.rmdir()
    assert own.parent != tmp_path / "work"


@pytest.mark.parametrize(
    ("variable", "uri", "server"),
    [
        ("", None, None),
        ("", "sqlite:///x.db", None),
        ("", "http://mlflow:5000", "http://mlflow:5000"),
        ("https://other", "http://mlflow:5000", "https://other"),
        ("sqlite:///x.db", "http://mlflow:5000", None),
    ],
)
def test_only_a_server_tracks_the_job_live(
    variable: str, uri: str | None, server: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
    assert tracking_server(uri) == server


@pytest.mark.parametrize(
    ("name", "version", "shown"),
    [
        ("python", "3.1", r"python 3\.1 \(not 3\.\d+\); both sides"),
        ("ray", "2.1.0", r"ray 2\.1\.0 \(not .*\); .* requirements\.lock"),
        ("torch", "2.1.0", r"torch 2\.1\.0 \(not 2\.[\d.]+\);"),
    ],
)
def test_another_version_is_refused(name: str, version: str, shown: str) -> None:
    check_versions(own_versions(), own_versions())
    with pytest.raises(ClusterError, match=shown):
        check_versions(own_versions(), own_versions() | {name: version})


def test_a_source_that_the_cluster_does_not_see_is_taken_as_it_was_prepared(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "dvc.yaml").write_text(
        "stages:\n  scan:\n    cmd: ls images > source.json\n    always_changed: true\n"
        "    outs: [source.json]\n"
        "  prepare: {cmd: touch out, deps: [source.json], outs: [out]}\n"
    )
    (repository / "params.yaml").write_text(
        "data: {source: folder, path: images, image_size: 16}\ntrain: {steps: 1}\n"
    )
    remote = Remote(repository, {"url": str(tmp_path / "store")})
    with pytest.raises(ParameterError, match=r"data\.path = images: not on the cluster"):
        take_prepared(remote)
    (repository / "images").mkdir()
    take_prepared(remote)
    assert repro(repository, []) == 0
    assert capsys.readouterr().out == ""
    (repository / "images").rmdir()
    take_prepared(remote)
    assert "prepare was done before, and is not repeated" in capsys.readouterr().out
    assert "frozen: true" in (repository / "dvc.yaml").read_text()
    assert repro(repository, ["--quiet"]) == 0
