"""The demonstration: what it changes and counts, and a short form of it that loses two nodes."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path

import pytest

from cluster.demo import DISTURBED, LOSSES, check_images, make_project
from pipeline.params import load_params
from tests.integration.project import ROOT, SMALL, copy_project


def test_the_project_is_a_clone_of_the_commit_that_can_spread(tmp_path: Path) -> None:
    source = copy_project(tmp_path / "source", SMALL)
    (source.folder / "README.md").write_text("not committed")
    made = make_project(source.folder, tmp_path / "demo", DISTURBED)
    params = load_params(made.clone / "params.yaml")
    assert (params.train.workers, params.train.min_workers) == (2, 1)
    assert (params.run.actors, params.run.prepare_workers) == ([1, 2], 2)
    assert params.storage.url == made.storage.as_uri()
    same = set(SMALL) - {"train", "storage", "data", "embed"}
    assert {name: made.values[name] for name in same} == {name: SMALL[name] for name in same}
    assert (made.clone / "README.md").read_text() == (ROOT / "README.md").read_text()
    assert source.run("git", "-C", str(made.clone), "status", "--porcelain").stdout == ""


def test_images_are_counted_by_their_ids() -> None:
    wanted = Counter(["a", "b", "c"])
    for found, holds, words in (
        ("cba", True, "3 images, 0 lost, 0 doubled"),
        ("aac", False, "3 images, 1 lost, 1 doubled"),
        ("abcd", False, "4 images, 0 lost, 1 doubled"),
    ):
        assert check_images("prepared", wanted, Counter(found)) == (holds, f"prepared: {words}")


@pytest.mark.slow
@pytest.mark.nodes
@pytest.mark.timeout(1800)
def test_a_run_that_loses_nodes_comes_to_the_same(tmp_path: Path) -> None:
    values = copy.deepcopy(SMALL) | {"predict": {"views": "jitter", "jitter_views": 16}}
    values["generations"] = {"1": {"teacher": "0", "select": {}, "student": {}}}
    values["train"]["steps"] = 400
    values["evaluate"]["jitter_views"] = 1
    project = copy_project(tmp_path / "project", values)
    answer = project.run("python", "-m", "cluster.demo", check=False)
    said = answer.stdout + answer.stderr
    assert answer.returncode == 0, said
    assert said.count("demo: killed worker-") == len(LOSSES)
    for found in ("prepared: 1797", "embedded: 1797", "predicted for generation 1: 798"):
        assert f"{found} images, 0 lost, 0 doubled" in said
    assert "NOT" not in said
