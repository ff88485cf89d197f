"""The demonstration: what it changes and counts, and a short form of it that loses two nodes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from cluster.demo import end_processes_in
from cluster.demo_losses import Seen, logged_steps
from cluster.demo_project import demo_values, make_project, with_overrides
from cluster.demo_verdict import check_losses, images_lost
from pipeline.errors import ParameterError
from pipeline.params import load_params
from tests.integration.project import ROOT, SMALL, copy_project

SHORT = ("train.steps=400", "evaluate.jitter_views=1", "predict={views: jitter, jitter_views: 16}")


def test_only_what_lets_a_run_spread_is_changed(tmp_path: Path) -> None:
    changed = demo_values(SMALL, tmp_path)
    assert changed["train"] == SMALL["train"] | {"workers": 2, "min_workers": 1}
    assert changed["run"] == {"actors": [1, 2], "checkpoint_minutes": 0.05}
    assert changed["storage"] == {"url": tmp_path.as_uri()}
    same = set(SMALL) - {"train", "storage", "data"}
    assert {name: changed[name] for name in same} == {name: SMALL[name] for name in same}
    assert "workers" not in SMALL["train"]


def test_overrides_are_yaml_under_their_sections() -> None:
    changed = with_overrides(SMALL, ["train.steps=7", "generations={}", "model.name=lenet5"])
    assert (changed["train"]["steps"], changed["generations"]) == (7, {})
    assert changed["train"]["batch_size"] == SMALL["train"]["batch_size"]
    assert SMALL["train"]["steps"] != 7


@pytest.mark.parametrize("wrong", ["train.steps", "nosuch.steps=1", "seed.steps=1", "train.=1"])
def test_a_wrong_override_is_named(wrong: str) -> None:
    with pytest.raises(ParameterError, match=re.escape(f"--set {wrong}: must be SECTION")):
        with_overrides(SMALL, [wrong])


def test_the_project_is_a_clone_of_the_commit_with_these_parameters(tmp_path: Path) -> None:
    source = copy_project(tmp_path / "source", SMALL)
    (source.folder / "README.md").write_text("not committed")
    made = make_project(source.folder, tmp_path / "demo", ["train.steps=7"])
    params = load_params(made.folder / "params.yaml")
    assert (params.train.steps, params.train.workers) == (7, 2)
    assert params.storage.url == made.storage.as_uri()
    assert (made.folder / "README.md").read_text() == (ROOT / "README.md").read_text()
    assert source.run("git", "-C", str(made.folder), "status", "--porcelain").stdout == ""
    with pytest.raises(ParameterError, match=r"train\.steps"):
        make_project(source.folder, tmp_path / "wrong", ["train.steps=-1"])


def test_images_are_counted_by_their_ids() -> None:
    wanted = Counter(["a", "b", "c"])
    assert images_lost(wanted, Counter(["c", "b", "a"])) == (0, 0, 3)
    assert images_lost(wanted, Counter(["a", "a", "c"])) == (1, 1, 3)
    assert images_lost(wanted, Counter(["a", "b", "c", "d"])) == (0, 1, 4)


def test_steps_that_were_trained_again_are_seen(tmp_path: Path) -> None:
    line = '{"step": %d, "values": {"loss": 1.0}}\n'
    history = tmp_path / "history.jsonl"
    assert logged_steps(history) == []
    lines = [line % step for step in (20, 40, 60, 40, 60)]
    history.write_text("".join(lines) + '{"step": 60, "values": {"val/accuracy": 1}}\n{"st')
    assert logged_steps(history) == [20, 40, 60, 40, 60]
    seen = Seen(lost=["worker-1", "worker-3"], step_lost=60, logged=logged_steps(history))
    assert seen.steps_again == 2
    assert check_losses(seen, ["task"]).holds
    assert not check_losses(seen, []).holds
    seen.logged = [20, 40, 20, 40]  # it began anew
    assert not check_losses(seen, ["task"]).holds


def test_what_works_in_the_folder_is_ended_and_nothing_else(tmp_path: Path) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with (
        subprocess.Popen(command, cwd=inside) as own,
        subprocess.Popen(command, cwd=tmp_path) as other,
    ):
        end_processes_in(tmp_path / "a")
        assert own.wait(10) < 0
        assert other.poll() is None
        other.kill()


@pytest.mark.slow
@pytest.mark.nodes
@pytest.mark.timeout(1200)
def test_a_run_that_loses_two_nodes_comes_to_the_same(tmp_path: Path) -> None:
    values = SMALL | {"generations": {"1": {"teacher": "0", "select": {}, "student": {}}}}
    project = copy_project(tmp_path / "project", values)
    options = [word for override in SHORT for word in ("--set", override)]
    answer = project.run("python", "-m", "cluster.demo", *options, check=False)
    said = answer.stdout + answer.stderr
    assert answer.returncode == 0, said
    assert said.count("demo: killed worker-") == 2
    assert "generation 1: 798 images predicted, 0 lost, 0 doubled" in said
    assert "NOT" not in said
