"""Secrets in addresses: found however they are written, refused, and in no message."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.connect import open_client
from cluster.job import tracking_server
from cluster.remote import find_remote
from pipeline.addresses import check_address, has_credentials, storage_problem, without_secrets
from pipeline.errors import ParameterError
from pipeline.params import parse_params
from pipeline.tracking.server import tracking_uri
from tests.cluster.project import run, start_project

ROOT = Path(__file__).parents[1]
FINE = [
    "file:///shared/mine",
    "file:///with%20blank/",
    "file:///home/me@work/mine",
    "s3://bucket",
    "s3://bucket/me@work/a:b",
    "s3://bucket/mine?endpoint_override=127.0.0.1:9000&scheme=http",
    "gs://bucket/some/folder",
    "http://127.0.0.1:5000",
    "http://[::1]:5000/",
    "https://mlflow.example/path",
    "sqlite:////home/me@work/mlflow.db",
    "postgresql://me@host/db?sslkey=/home/me/key",
    "databricks://profile",
    "databricks",
    "mlflow.db",
]
SECRET = [
    "http://me:hunter2@host:5000",
    "HTTP://me:hunter2@host",
    "https://hunter2@host",
    "http://me%3Ahunter2%40host",
    "http://me:hunter2%40host/",
    "http://me%253Ahunter2%2540host",
    "http://me:hun/ter2@host",
    "http://me:1/hunter2@host",
    "http://me:hunter2#x@host",
    "http://me:hunter2?x@host",
    "http:/me:hunter2@host",
    "me:hunter2@host:5000",
    "me:hunter2@http://host",
    "https://host/?token=hunter2",
    "https://host/#access_token=hunter2",
    "https://host/x?a=1&X-Amz-Signature=hunter2",
    "https://host/x?a=1;sig=hunter2",
    "https://host/x?SIG=hunter2",
    "https://host/x?to%6ben=hunter2",
    "postgresql+psycopg2://me:hunter2@host/db",
    "mysql://host/db?user=me&password=hunter2",
    "mysql://host/db?passwd=hunter2",
    "s3://key:hunter2@bucket/mine",
    "s3://key:hunter2/with@bucket/mine",
    "s3://hunter2@bucket",
    "s3://key:hunter2/bucket",
    "S3://bucket?secret_key=hunter2",
    "s3://bucket?SECRET_KEY=hunter2",
    "s3://bucket/mine?region=a&access_key=a&session_token=hunter2",
    "s3://bucket?endpoint_override=me:hunter2@host",
    "gs://bucket?X-Goog-Signature=hunter2",
    "az://container?sv=1&sig=hunter2",
    "ssh://me:hunter2@host/folder",
]


@pytest.mark.parametrize("address", FINE)
def test_an_address_without_a_secret_is_fine(address: str) -> None:
    assert not has_credentials(address)
    assert without_secrets(address) == address
    values = minimal(tracking={"uri": address})
    assert parse_params(values).tracking.uri == address
    if address.startswith(("file:", "s3:", "gs:")):
        assert storage_problem(address) is None
        values = minimal(data={"source": "folder", "path": address})
        assert parse_params(values).data.path == address


@pytest.mark.parametrize("address", SECRET)
def test_a_secret_is_found_and_not_shown(address: str) -> None:
    with pytest.raises(ParameterError) as error:
        check_address("NAME", address)
    line = str(error.value)
    assert line.startswith("NAME = '")
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in line
    assert "AWS_SECRET_ACCESS_KEY" in line
    assert not any(part in line for part in ("hunter2", "me:", "ter2", "key:", "\n"))


@pytest.mark.parametrize("part", ["a", "a:", "25", "a@", "://", "a@:", "k&"])
def test_a_long_address_is_judged_at_once(part: str) -> None:
    has_credentials("s3://b?%" + part * 100_000)
    has_credentials("%" + part * 100_000)


def minimal(**sections: Any) -> dict[str, Any]:
    data = {"source": "digits", "image_size": 16} | sections.pop("data", {})
    return {"data": data, "train": {"steps": 1}, **sections}


@pytest.mark.parametrize("address", SECRET)
@pytest.mark.parametrize(
    ("key", "sections"),
    [
        ("tracking.uri", lambda uri: {"tracking": {"uri": uri}}),
        ("storage.url", lambda url: {"storage": {"url": url}}),
        ("data.path", lambda path: {"data": {"source": "folder", "path": path}}),
        ("embed.source", lambda source: {"embed": {"source": source, "sha256": "0" * 64}}),
        ("teacher.transfer.source", lambda source: {"teacher": {"transfer": {"source": source}}}),
        ("tracking.uri", lambda uri: {"tracking": {"uri": ["a", uri]}}),  # of a wrong type
    ],
)
def test_no_parameter_takes_a_secret(key: str, sections: Any, address: str) -> None:
    if "://" not in address and key.rpartition(".")[2] not in ("uri", "url"):
        return  # the name of a folder
    with pytest.raises(ParameterError) as error:
        parse_params(minimal(**sections(address)))
    line = str(error.value)
    assert line.startswith(f"params.yaml: {key} = ")
    assert not any(part in line for part in ("hunter2", "ter2", "\n"))


@pytest.mark.parametrize("address", SECRET)
def test_no_command_takes_a_secret(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    calls: list[Callable[[], object]] = [
        lambda: tracking_uri(tmp_path, None),
        lambda: tracking_server(None),
        lambda: open_client(address),
    ]
    for call in calls:
        with pytest.raises(ParameterError) as error:
            call()
        assert "hunter2" not in str(error.value)


def test_a_remote_of_dvc_holds_no_secret(tmp_path: Path) -> None:
    start_project(tmp_path / "project")
    url = "https://me:hunter2@host/folder"
    run(tmp_path / "project", "dvc", "remote", "add", "-q", "-d", "there", url)
    with pytest.raises(ParameterError, match=r"the DVC remote there = 'https://…'"):
        find_remote(tmp_path / "project", None)


def test_a_stage_refuses_before_it_works_and_writes_it_nowhere(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    environment = os.environ | {"MLFLOW_TRACKING_URI": "http://me:hunter2@127.0.0.1:9"}
    command = [sys.executable, "-m", "stages.prepare"]
    answer = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith("prepare: MLFLOW_TRACKING_URI = 'http://…': credentials go")
    assert answer.stderr.count("\n") == 1
    assert "hunter2" not in answer.stderr + answer.stdout
    assert [path.name for path in tmp_path.rglob("*")] == ["params.yaml"]
