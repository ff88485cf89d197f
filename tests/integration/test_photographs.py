"""Features once, heads that teach themselves, and a fine-tuned student, as presets/photographs."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.shards import read_manifest
from pipeline.errors import SourceError
from pipeline.models.spec import model_digest, read_spec
from selftrain import fit_folder
from tests.integration.by_hand import start
from tests.integration.photographs import small_parameters, write_pictures
from tests.integration.project import Project, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PARTS = ("labeled", "unlabeled", "validation", "test")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy in which a head, one that taught itself and a student have been trained."""
    values = small_parameters()
    del values["generations"]["3"]
    project = copy_project(tmp_path_factory.mktemp("project"), values)
    write_pictures(project.folder / "my_images", labeled=8, unlabeled=40, test=20)
    project.repro()
    return project


def features(folder: Path) -> dict[str, Any]:
    """What the manifests of the features name."""
    return {part: read_manifest(folder / "features" / part).shards for part in PARTS}


def test_heads_read_features_and_the_student_is_a_network(project: Project) -> None:
    body = model_digest(project.folder / "features/body")
    specs = {key: read_spec(project.folder / "models" / key) for key in ("0", "1", "2")}
    assert [spec.body for spec in specs.values()] == [body, body, None]
    assert specs["1"].teacher == model_digest(project.folder / "models/0")
    for key in specs:
        metrics = project.json(f"metrics/evaluate/{key}.json")
        assert metrics["test/accuracy"] > 0.6, key


def test_no_label_is_given_up_and_heads_are_judged_out_of_fold(project: Project) -> None:
    prepared = project.json("metrics/prepare.json")
    assert (prepared["labeled"], prepared["validation"], prepared["test"]) == (24, 0, 60)
    first, second, network = (project.json(f"metrics/guard/{key}.json") for key in ("0", "1", "2"))
    assert (first["images"], first["teacher_accuracy"]) == (24, None)
    assert (second["images"], second["teacher_accuracy"]) == (24, first["accuracy"])
    assert network["images"] == 0
    assert project.json("metrics/evaluate/0.json")["val/accuracy"] == first["accuracy"]


def test_a_second_repro_runs_nothing_and_only_the_body_s_parameters_embed_again(
    project: Project,
) -> None:
    assert project.repro() == []
    before = project.parameters()
    changed = project.parameters()
    changed["run"] = {"actors": 2, "select_threads": 1, "checkpoint_minutes": 1.0}
    project.set_parameters(changed)
    assert project.run("dvc", "status").stdout.split() == ["scan:", "always", "changed"]
    changed["select"]["confidence_threshold"] = 0.01
    project.set_parameters(changed)
    stale = project.run("dvc", "status").stdout
    assert "embed:" not in stale
    assert "select@1:" in stale
    changed["embed"]["input_size"] = 24
    project.set_parameters(changed)
    assert "embed:" in project.run("dvc", "status").stdout
    project.set_parameters(before)


def test_a_killed_embed_goes_on_and_storage_holds_the_same(
    project: Project, tmp_path: Path
) -> None:
    values = project.parameters()
    again = copy_project(tmp_path / "again", values)
    (again.folder / "my_images").symlink_to(project.folder / "my_images")
    again.run("python", "-m", "stages.prepare")
    process = start("embed", again.folder)
    made = again.folder / ".selftrain/scratch"
    while not list(made.glob("embed-*/unlabeled/*.parquet")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = {path: path.stat().st_mtime_ns for path in made.glob("embed-*/*/*.parquet")}
    values["run"]["actors"] = 2
    again.set_parameters(values)
    again.run("python", "-m", "stages.embed")
    assert features(again.folder) == features(project.folder)
    after = {path: path.stat().st_mtime_ns for path in kept}
    assert after == kept

    values["storage"] = {"url": (tmp_path / "bucket").as_uri()}
    again.set_parameters(values)
    for stage in ("prepare", "embed"):
        again.run("python", "-m", f"stages.{stage}")
    stored = features(again.folder)
    for part, shards in features(project.folder).items():
        assert [shard.sha256 for shard in stored[part]] == [shard.sha256 for shard in shards]
    assert stored["unlabeled"][0].prefix is not None
    generation = ("search", "train_teacher")
    for stage in generation:
        again.run("python", "-m", f"stages.{stage}")
    again.run("python", "-m", "stages.pseudo_label", "--generation", "1")
    local = read_manifest(project.folder / "predictions/1")
    there = read_manifest(again.folder / "predictions/1")
    assert [shard.sha256 for shard in there.shards] == [shard.sha256 for shard in local.shards]


def test_held_out_images_judge_a_head_where_params_say_so(project: Project, tmp_path: Path) -> None:
    values = project.parameters()
    values["data"] |= {"validation": "held_out", "validation_fraction": 0.25}
    values["evaluate"]["views"] = "flip"  # not what features were made of: the images are looked at
    again = copy_project(tmp_path / "again", values)
    (again.folder / "my_images").symlink_to(project.folder / "my_images")
    for stage in ("prepare", "embed", "search", "train_teacher"):
        again.run("python", "-m", f"stages.{stage}")
    again.run("python", "-m", "stages.evaluate", "--generation", "0")
    counts, metrics = again.json("metrics/guard/0.json"), again.json("metrics/evaluate/0.json")
    assert counts["images"] == 6
    assert read_spec(again.folder / "models/0").temperature != 1.0
    assert metrics["test/accuracy"] > 0.6
    assert not (again.folder / "models/0/folds.safetensors").exists()


def test_one_function_goes_on_with_the_project_and_classifies(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    fitted = fit_folder(project.folder / "my_images", project.folder)
    assert "nothing to do" in capfd.readouterr().out
    files = sorted((project.folder / "my_images/test/spots").glob("*.png"))
    *known, broken = fitted.predict([*files, files[0].read_bytes(), b"no image"])
    assert known[0] == known[-1]
    assert sum(each.label == "spots" for each in known) > len(known) / 2
    assert all(1 / 3 <= each.confidence <= 1 for each in known)
    assert broken == (None, 0.0, "not an image")
    with pytest.raises(SourceError, match=r"nothing\.png: can't be read"):
        fitted.predict(["nothing.png"])
