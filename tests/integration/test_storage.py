"""Two fresh copies come to the same bytes, one of which has its shards in shared storage."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.data.shards import read_manifest
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import ROOT
from tests.data.helpers import encoded, noise
from tests.integration.project import SMALL, Project, copy_project
from tests.s3 import BUCKET, s3_url

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FOLDERS = [f"prepared/{part}" for part in ("labeled", "unlabeled", "validation", "test")]
FOLDERS += ["predictions/1", "pseudo_labels/1"]


def project_at(folder: Path, url: str | None) -> Project:
    values: dict[str, Any] = copy.deepcopy(SMALL)
    values["train"]["steps"] = 20
    values["storage"] = {"url": url}
    values["generations"].pop("2")
    return copy_project(folder, values)


def shards_of(project: Project) -> dict[str, list[tuple[str, int, str]]]:
    """What each manifest says of its shards, but where they are."""
    return {
        name: [(e.file, e.rows, e.sha256) for e in read_manifest(project.folder / name).shards]
        for name in FOLDERS
    }


def cached_images(project: Project) -> list[Path]:
    """The files in DVC's cache that hold images."""
    found = []
    for path in (project.folder / ".dvc" / "cache").rglob("*"):
        if path.is_file() and path.read_bytes()[:4] == b"PAR1":
            found += [path] if "image" in pq.read_schema(path).names else []
    return found


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = project_at(tmp_path_factory.mktemp("local") / "project", None)
    project.repro("train_student@1")
    assert cached_images(project)
    return project


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Path]:
    """A copy, and the folder of its storage."""
    folder = tmp_path_factory.mktemp("stored")
    project = project_at(folder / "project", (folder / "shared").as_uri())
    project.repro("train_student@1")
    return project, folder / "shared"


def test_models_are_the_same_to_the_byte_and_no_image_goes_through_dvc(
    local: Project, stored: tuple[Project, Path]
) -> None:
    project, storage = stored
    for name in FOLDERS:
        assert [path.name for path in (project.folder / name).iterdir()] == ["manifest.json"], name
    assert cached_images(project) == []
    assert shards_of(project) == shards_of(local)
    for name in ("models/0/model.safetensors", "models/1/model.safetensors", "models/1/model.json"):
        assert (project.folder / name).read_bytes() == (local.folder / name).read_bytes(), name
    assert project.repro("train_student@1") == []
    prefixes = {path.name for path in (storage / "shards").iterdir()}
    assert len(prefixes) == len(FOLDERS)
    orphan = storage / "shards" / f"test-{'0' * 32}" / "shard_00000.json"
    orphan.parent.mkdir()
    orphan.write_text("{}")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "-m", "run")
    deleted = project.run("python", "-m", "cluster.gc", "--delete", "--min-age", "0")
    assert "1 (2 bytes)" in deleted.stdout
    assert {path.name for path in (storage / "shards").iterdir()} == prefixes


def test_a_lost_prediction_is_named_and_only_that_is_predicted_again(
    local: Project, stored: tuple[Project, Path]
) -> None:
    project, storage = stored
    before = {path: path.stat().st_mtime_ns for path in (storage / ROOT).rglob("shard_*.parquet")}
    lost = next(path for path in before if "predictions-" in path.parent.name)
    lost.unlink()
    answer = project.run("dvc", "repro", "--force", "--single-item", "select@1", check=False)
    assert answer.returncode != 0
    assert lost.name in answer.stderr
    assert "missing" in answer.stderr
    assert "Traceback" not in answer.stderr
    project.run("dvc", "repro", "--force", "--single-item", "pseudo_label@1")
    changed = [path for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert changed == [lost]
    project.repro("select@1")
    assert shards_of(project) == shards_of(local)


def test_the_same_through_an_object_store(local: Project, tmp_path: Path, s3: str) -> None:
    url = s3_url(s3, f"{BUCKET}/project")
    project = project_at(tmp_path / "project", url)
    project.repro("select@1")
    assert cached_images(project) == []
    assert shards_of(project) == shards_of(local)
    listed = {item.path.split("/")[0] for item in (StoredFolder(url) / ROOT).listing()}
    assert len(listed) == len(FOLDERS)


def test_an_address_without_a_server_ends_the_stage_in_one_line(tmp_path: Path, s3: str) -> None:
    project = project_at(tmp_path / "project", s3_url(s3, "nobucket/project"))
    answer = project.run("python", "-m", "stages.prepare", check=False)
    assert answer.returncode == 1
    assert answer.stderr.startswith("prepare: storage.url = s3://nobucket/project")
    assert "there is no bucket 'nobucket'" in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert not (project.folder / "prepared" / "dataset.json").exists()


def test_images_in_a_bucket_are_read_by_tasks(tmp_path: Path, s3: str) -> None:
    images, url = tmp_path / "images", s3_url(s3, f"{BUCKET}/images")
    for number in range(60):
        name = f"labeled/{('cat', 'dog')[number % 2]}/{number}.png"
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_bytes(encoded(noise(number, 16)))
        StoredFolder(url).write(name, (images / name).read_bytes())
    made = []
    for name, path, workers in (("here", str(images), 0), ("there", url, 2)):
        values: dict[str, Any] = copy.deepcopy(SMALL)
        values["data"] |= {"source": "folder", "path": path, "labels": None}
        values["run"] = {"prepare_workers": workers}
        project = copy_project(tmp_path / name, values)
        for stage in ("scan", "prepare"):
            project.run("python", "-m", f"stages.{stage}")
        out = project.folder / "prepared"
        files = [path for path in out.rglob("*") if path.is_file()]
        made.append({path.relative_to(out): path.read_bytes() for path in files})
        assert project.json("source.json")["files"] == 60
    assert made[0] == made[1]
