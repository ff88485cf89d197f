"""The whole pipeline under DVC: what it writes and what a change reruns."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.models.spec import model_digest
from tests.integration.project import SMALL, Project, copy_project, stages_run

pytestmark = [pytest.mark.slow, pytest.mark.pipeline, pytest.mark.timeout(900)]

GENERATIONS = ("0", "1", "2")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy in which the whole pipeline has run once and its results are committed."""
    project = copy_project(tmp_path_factory.mktemp("project"), SMALL)
    project.repro()
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "-m", "run")
    return project


def test_every_stage_is_there_for_every_generation(project: Project) -> None:
    listed = [line.split()[0] for line in project.run("dvc", "stage", "list").stdout.splitlines()]
    per_generation = ("pseudo_label", "select", "train_student")
    assert listed[:5] == ["scan", "prepare", "embed", "search", "train_teacher"]
    assert set(listed) == {
        *(
            "scan",
            "prepare",
            "embed",
            "search",
            "train_teacher",
            "evaluate_teacher",
            "ensemble",
            "baseline",
            "report",
        ),
        *(f"{stage}@{g}" for stage in (*per_generation, "evaluate") for g in ("1", "2")),
    }


def test_status_knows_what_a_change_would_run(project: Project) -> None:
    def status() -> list[str]:
        said = project.run("python", "-m", "selftrain", "status").stdout.splitlines()
        assert "the handwritten digits of the demonstration" in said[0]
        return said[1:]

    assert status() == ["status: nothing to do: every output is up to date"]
    before = project.parameters()
    changed = copy.deepcopy(before)
    changed["generations"]["2"]["select"] = {"confidence_threshold": 0.2}
    project.set_parameters(changed)
    first, second = status()
    stages = ["select@2", "train_student@2", "evaluate@2", "ensemble", "report"]
    assert first.startswith("status: 5 stages to run, about 1 minute")  # as they took before
    assert second == f"status: {', '.join(stages)}"
    project.set_parameters(before)
    code = project.folder / "stages/baseline.py"
    text = code.read_text()
    code.write_text(text + "# another\n")
    assert status()[1] == "status: baseline, report"
    code.write_text(text)


def test_the_last_table_is_shown_again_and_damage_is_one_line(project: Project) -> None:
    shown = project.run("python", "-m", "selftrain", "report").stdout.splitlines()
    assert [line.split()[1] for line in shown if line.startswith("generation")][:3] == [
        "0",
        "1",
        "2",
    ]
    assert shown[-1].startswith("report: file://")
    path = project.folder / "metrics/baseline.json"
    text = path.read_text()
    path.write_text('{"accuracy": "high"}')
    answer = project.run("python", "-m", "selftrain", "report", check=False)
    path.write_text(text)
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert "cut or altered" in answer.stderr


def test_metrics_files_hold_the_promised_keys(project: Project) -> None:
    prepared = project.json("metrics/prepare.json")
    assert prepared["labeled"] + prepared["validation"] == 100
    assert prepared["labeled"] + prepared["unlabeled"] + prepared["validation"] == 898
    assert prepared["test"] == 899
    assert prepared["quarantined"] == prepared["duplicates_dropped"] == 0
    keys = {f"test/{key}" for key in ("accuracy", "accuracy_low", "accuracy_high", "nll", "ece")}
    for name in ("evaluate/0", "evaluate/1", "evaluate/2", "ensemble"):
        assert keys | {"val/accuracy"} <= set(project.json(f"metrics/{name}.json")), name
    for generation in ("1", "2"):
        chosen = project.json(f"metrics/select/{generation}.json")
        assert 0.5 < chosen["coverage"] < 0.75
        assert {"class_imbalance", "pseudo_label_accuracy"} <= set(chosen)


def test_models_have_learnt_and_pseudo_labels_are_mostly_right(project: Project) -> None:
    for generation in GENERATIONS:
        metrics = project.json(f"metrics/evaluate/{generation}.json")
        assert metrics["test/accuracy"] > 0.6
        assert metrics["test/accuracy_low"] < metrics["test/accuracy"]
        assert metrics["test/accuracy"] < metrics["test/accuracy_high"]
    for generation in ("1", "2"):
        chosen = project.json(f"metrics/select/{generation}.json")
        assert chosen["pseudo_label_accuracy"] > 0.7
        assert chosen["class_imbalance"] < 3


def test_pseudo_labels_say_why_each_image_was_kept_or_not(project: Project) -> None:
    unlabeled = [
        name
        for path in sorted((project.folder / "prepared/unlabeled").glob("*.parquet"))
        for name in pq.read_table(path, columns=["id"])["id"].to_pylist()
    ]
    shards = sorted((project.folder / "pseudo_labels/1").glob("*.parquet"))
    rows = [row for path in shards for row in pq.read_table(path).to_pylist()]
    assert len(shards) == 3
    assert [row["id"] for row in rows] == unlabeled
    assert {row["reason"] for row in rows} == {"kept", "over_class_target"}
    assert all((row["repeats"] > 0) == (row["reason"] == "kept") for row in rows)


def test_student_is_larger_and_knows_its_teacher(project: Project) -> None:
    spec = project.json("models/2/model.json")
    assert spec["network"]["width"] == 20
    assert spec["teacher"] == model_digest(project.folder / "models/1")


def test_no_stage_of_training_depends_on_the_hidden_truth(project: Project) -> None:
    text = (project.folder / "dvc.yaml").read_text()
    users = re.findall(r"python -m stages\.(\w+)(?:(?!python -m).)*?unlabeled_truth", text, re.S)
    assert set(users) == {"prepare", "select"}


def test_the_guard_has_counted_and_a_changed_guard_retrains_nothing(project: Project) -> None:
    counts = project.json("metrics/guard/2.json")
    assert counts["images"] == 30
    teacher = project.json("metrics/guard/1.json")
    assert counts["teacher_accuracy"] == pytest.approx(teacher["accuracy"])
    before = project.parameters()
    changed = copy.deepcopy(before)
    changed["guard"] = {"on_regression": "stop", "min_coverage": 0.99}
    project.set_parameters(changed)
    answer = project.run("dvc", "repro", check=False)
    assert answer.returncode != 0
    assert stages_run(answer.stdout) == ["select@1"]
    assert "guard.min_coverage = 0.99. Generation 1 is not taught" in answer.stderr
    changed["guard"] = {"min_coverage": 0.99}
    project.set_parameters(changed)
    answer = project.run("dvc", "repro")
    assert stages_run(answer.stdout) == ["select@1", "select@2", "report"]
    assert "select@1: warning: generation 1 has pseudo-labels for" in answer.stdout
    assert "What the guard found" in (project.folder / "report/index.html").read_text()
    project.set_parameters(before)
    assert project.repro() == []  # from the run cache


def test_report_says_whether_it_helped(project: Project) -> None:
    page = (project.folder / "report/index.html").read_text()
    assert "LabelSpreading" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    accuracy = project.json("metrics/evaluate/2.json")["test/accuracy"]
    assert f"{100 * accuracy:.1f}" in page


def test_a_second_repro_runs_nothing(project: Project) -> None:
    assert project.repro() == []
    assert project.run("dvc", "status").stdout.split() == ["scan:", "always", "changed"]


def test_dvc_shows_metrics_and_plots(project: Project) -> None:
    shown = project.run("dvc", "metrics", "show").stdout
    assert "metrics/evaluate/2.json" in shown.replace("\\", "/")
    project.run("dvc", "plots", "show", "-o", "dvc_plots")
    plots = (project.folder / "dvc_plots/index.html").read_text()
    assert "training loss" in plots
    assert "confusion" in plots


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
def test_mlflow_holds_one_parent_and_a_child_run_for_each_stage(project: Project) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.info.run_name: run for run in runs if run not in parents}
    by_id = {run.info.run_id: run.data.params for run in parents}
    guarded = {params["guard.min_coverage"] for params in by_id.values()}
    assert len(parents) > len(guarded) > 1  # each with its parameters, and some without the guard
    first = by_id[children["train_teacher"].data.tags["mlflow.parentRunId"]]
    assert first["generations.2.student.model.width"] == "20"
    assert {"train_teacher", "train_student@2", "select@1", "evaluate@2"} <= set(children)
    assert all(run.info.status == "FINISHED" for run in children.values())
    assert all(run.info.end_time >= run.info.start_time for run in children.values())
    student = children["train_student@2"]
    assert len(client.get_metric_history(student.info.run_id, "loss")) == 3
    assert student.data.params["model.width"] == "20"
    assert (
        student.data.tags["git_commit"] == project.run("git", "rev-parse", "HEAD~").stdout.strip()
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
def test_mlflow_shows_what_was_used_drawn_and_shipped(project: Project) -> None:
    import mlflow

    uri = f"sqlite:///{project.folder}/mlflow.db"
    client = mlflow.MlflowClient(uri, registry_uri=uri)
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=100)
    runs = {run.info.run_name: run for run in found}
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    notes = [run.data.tags.get("mlflow.note.content", "") for run in parents]
    assert any("| **generation " in note for note in notes)
    inputs: Any = runs["evaluate@1"].inputs
    used = {each.dataset.name: each.dataset for each in inputs.dataset_inputs}
    counts = project.json("metrics/prepare.json")
    test = used["digits/prepared/test"]
    assert json.loads(test.profile) == {"num_rows": counts["test"]}
    assert runs["train_teacher"].data.tags["generation"] == "0"
    drawn = {
        name: {each.path for each in client.list_artifacts(runs[name].info.run_id, "figures")}
        for name in ("select@1", "evaluate@2", "train_student@2")
    }
    assert drawn == {
        "select@1": {"figures/class_balance.svg", "figures/confidence.svg"},
        "evaluate@2": {f"figures/{n}.svg" for n in ("confusion", "per_class", "reliability")},
        "train_student@2": {f"figures/samples_{n}.png" for n in ("labeled", "pseudo_labeled")},
    }
    champion = client.get_model_version_by_alias("digits", "champion")
    assert champion.run_id == runs["ensemble"].info.run_id


def test_another_generation_reruns_nothing_earlier_and_can_go_again(project: Project) -> None:
    before = project.parameters()
    more = copy.deepcopy(before)
    more["generations"]["3"] = {"teacher": "2", "select": {}, "student": {}}
    project.set_parameters(more)
    new = ["pseudo_label@3", "select@3", "train_student@3", "evaluate@3", "ensemble", "report"]
    assert project.repro() == new
    assert (
        "Generation 3" in (project.folder / "report/index.html").read_text()
        or (project.folder / "evaluations/3").exists()
    )
    project.set_parameters(before)
    assert set(project.repro()) <= {"ensemble", "report"}
    assert not (project.folder / "evaluations/3").exists()


def test_a_wrong_value_ends_a_stage_before_its_work_with_one_line(project: Project) -> None:
    good = project.parameters()
    wrong = copy.deepcopy(good)
    wrong["train"]["steps"] = -5
    project.set_parameters(wrong)
    answer = project.run("python", "-m", "stages.train_teacher", check=False)
    project.set_parameters(good)
    assert answer.returncode == 2
    assert answer.stderr.strip().splitlines() == [
        "train_teacher: params.yaml: train.steps = -5: should be greater than or equal to 1"
    ]
