"""A project is made anywhere, and what is there already is left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.params import load_params
from pipeline.workflow.stage import git_commit
from selftrain.new import main
from selftrain.plan import planned_stages


def new(monkeypatch: pytest.MonkeyPatch, folder: Path | str) -> int:
    monkeypatch.setattr(sys, "argv", ["new", str(folder)])
    return main()


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of DVC's use of a library
def test_a_project_has_all_that_a_run_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert new(monkeypatch, "deep/my project") == 0
    assert "cd 'deep/my project'; selftrain init IMAGES; selftrain run" in capsys.readouterr().out
    project = tmp_path / "deep/my project"
    assert {path.name for path in project.iterdir()} == {
        *(".git", ".dvc", ".gitignore", ".dvcignore"),
        *("dvc.yaml", "params.yaml", "corrections.csv"),
    }
    monkeypatch.chdir(project)
    stages = planned_stages(project, load_params())
    assert stages[:2] == ["prepare", "embed"]
    assert stages[-1] == "report"
    assert "evaluate@0" in stages


@pytest.mark.parametrize("identity", ["[user]\nname = I\nemail = i@example.org\n", ""])
def test_it_is_committed_where_git_knows_who_does_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    identity: str,
) -> None:
    (tmp_path / "gitconfig").write_text(identity)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    assert new(monkeypatch, tmp_path / "project") == 0
    said = capsys.readouterr().out
    assert ("nothing is committed yet (git: fatal: " in said) == (not identity)
    head = git_commit(tmp_path / "project")
    assert (len(head) == 40) if identity else (head == "none")
    status = ["git", "status", "--porcelain"]
    changed = subprocess.run(status, cwd=tmp_path / "project", capture_output=True, check=True)
    assert identity == "" or changed.stdout == b""


def test_inside_a_git_repository_it_is_a_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / "part").mkdir()
    assert new(monkeypatch, tmp_path / "part") == 0
    assert not (tmp_path / "part/.git").exists()
    assert (tmp_path / "part/.dvc").is_dir()


@pytest.mark.parametrize("name", ["file", "full", "file/below"])
def test_what_is_there_stays(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    (tmp_path / "full").mkdir()
    for path in ("file", "full/mine"):
        (tmp_path / path).write_text("mine")
    assert new(monkeypatch, tmp_path / name) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "file").read_text() == (tmp_path / "full/mine").read_text() == "mine"
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]


def test_without_git_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert new(monkeypatch, tmp_path / "project") == 2
    assert "git: not found" in capsys.readouterr().err
    assert not (tmp_path / "project").exists()
