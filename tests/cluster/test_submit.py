"""From here to a cluster and back: a run, its figures, models, tracked runs."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from cluster.local import LocalCluster
from pipeline.tracking.server import tracking_uri
from pipeline.tracking.tracker import drain
from tests.integration.project import SMALL, Project, copy_project
from tests.tracking.tracked import QUIET_MLFLOW

pytestmark = [*QUIET_MLFLOW, pytest.mark.slow, pytest.mark.nodes, pytest.mark.timeout(900)]

Submit = Callable[..., subprocess.CompletedProcess[str]]


def tiny(storage: Path) -> dict[str, Any]:
    values = copy.deepcopy(SMALL)
    values["train"]["steps"] = 8
    values["evaluate"]["jitter_views"] = 1
    values["generations"].pop("2")
    values["ensemble"] = {"label_issue_margin": 0.5, "seeds": {}}
    values["storage"] = {"url": storage.as_uri()}
    return values


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    storage = tmp_path_factory.mktemp("storage")
    return copy_project(tmp_path_factory.mktemp("project"), tiny(storage))


@pytest.fixture(scope="module")
def submit(head: LocalCluster, project: Project) -> Iterator[Submit]:
    """Call the command as a user does, in the project's folder."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in head.environment.items():
            patch.setenv(name, value)
        patch.delenv("RAY_ADDRESS", raising=False)

        def call(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
            command = (sys.executable, "-m", "cluster.submit", "--address", head.dashboard)
            return project.run(*command, *arguments, check=check)

        yield call


def bytes_of(project: Project, pattern: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(project.folder.glob(pattern))}


def test_what_was_changed_but_not_committed_is_refused(submit: Submit, project: Project) -> None:
    readme = project.folder / "README.md"
    text = readme.read_text()
    readme.write_text(text + "more\n")
    answer = submit(check=False)
    readme.write_text(text)
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
    assert "submit: not committed: README.md; " in answer.stderr


def test_without_storage_or_remote_it_refuses(submit: Submit, project: Project) -> None:
    values = project.parameters()
    project.set_parameters({name: value for name, value in values.items() if name != "storage"})
    answer = submit(check=False)
    project.set_parameters(values)
    assert answer.returncode == 2
    assert "submit: nothing to bring results back through: set storage.url" in answer.stderr


def test_a_run_on_the_cluster_is_as_one_here(submit: Submit, project: Project) -> None:
    project.run("git", "checkout", "--", "params.yaml")
    leftover = project.folder / "curves" / "7" / "loss.csv"  # of a generation that is no more
    leftover.parent.mkdir(parents=True)
    leftover.write_text("step,loss\n")
    project.run("git", "add", str(leftover))
    project.run("git", "commit", "-qm", "More generations")
    said = submit().stdout
    assert not leftover.exists()
    assert "Running stage 'report'" in said
    assert project.run("dvc", "status").stdout.split() == ["scan:", "always", "changed"]
    assert project.json("metrics/evaluate/1.json")["test/accuracy"] > 0.1
    assert (project.folder / "report" / "index.html").exists()
    assert project.repro() == []
    models = bytes_of(project, "models/*/*")
    assert len(models) == 4
    again = ["train_teacher", "train_student@1"]
    assert project.repro("--force", "--single-item", *again) == again
    assert bytes_of(project, "models/*/*") == models
    commit = project.run("git", "rev-parse", "HEAD").stdout.strip()
    runs = tracked_runs(project)
    assert {"prepare", "train_teacher", "pseudo_label@1", "report"} <= set(runs)
    assert set(runs.values()) == {commit}
    storage = Path(project.parameters()["storage"]["url"].removeprefix("file://"))
    assert list((storage / "dvc" / "selftrain-jobs").iterdir()) == []
    assert list((storage / "work").iterdir()) == []


def test_a_run_can_be_left_and_taken_up_again(submit: Submit, project: Project) -> None:
    """The results of the run above lie in the working tree, not committed: this builds on them."""
    project.set_parameters(
        project.parameters() | {"ensemble": {"label_issue_margin": 0.1, "seeds": {}}}
    )
    said = submit("--detach", "--allow-dirty").stdout
    job = re.search(r"--resume (selftrain-\S+)", said)
    assert job is not None
    resumed = submit("--resume", job[1]).stdout
    assert "Stage 'train_teacher' didn't change, skipping" in resumed
    assert "Running stage 'ensemble'" in resumed
    assert project.run("dvc", "status").stdout.split() == ["scan:", "always", "changed"]
    again = submit("--resume", job[1]).stdout
    assert "they were brought back before" in again
    project.run("git", "checkout", "--", "params.yaml")


def test_of_a_run_that_fails_the_finished_stages_come_back(
    submit: Submit, project: Project
) -> None:
    values = project.parameters()
    project.set_parameters(values | {"seed": 4, "train": values["train"] | {"learning_rate": 1e30}})
    answer = submit("--allow-dirty", check=False)
    assert answer.returncode == 255, answer.stderr  # dvc's
    assert "failed with exit code 255: ERROR: failed to reproduce 'train_teacher'" in answer.stderr
    assert answer.stderr.endswith("; what it finished is here\n")
    assert project.repro("prepare") == []
    project.run("git", "checkout", "--", "params.yaml")


def tracked_runs(project: Project) -> dict[str, str]:
    """The commit of each stage's run that is in MLflow."""
    assert drain(project.folder, 60) == 0
    client: Any = MlflowClient(tracking_uri(project.folder, None))
    ids = [each.experiment_id for each in client.search_experiments()]
    runs = [run for run in client.search_runs(ids) if "git_commit" in run.data.tags]
    return {run.info.run_name: run.data.tags["git_commit"] for run in runs}
