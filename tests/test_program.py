"""The digest of a stage's code changes with its code, and what comes beside the code is found."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import get_args

import pytest

from pipeline import program
from pipeline.errors import DataError
from pipeline.params.sections import TaskName
from pipeline.program import copy_program, program_digests, program_file

ROOT = Path(__file__).parents[1]


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("pipeline", "stages", "presets"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    monkeypatch.setattr(program, "CODE", tmp_path)
    return tmp_path


def test_a_change_of_the_code_changes_the_digests_of_the_stages_that_run_it(copied: Path) -> None:
    before = program_digests()
    (copied / "pipeline/labels/select.py").write_text("# another\n")
    changed = {key for key, digest in program_digests().items() if digest != before[key]}
    assert changed == {"train", "pseudo_label", "select", "evaluate", "report"}
    (copied / "stages/embed.py").write_text("# another\n")
    (copied / "presets/digits_50.yaml").write_text("seed: 1\n")
    changed |= {key for key, digest in program_digests().items() if digest != before[key]}
    assert changed == before.keys() - {"prepare", "search", "ensemble", "baseline"}


def test_another_task_changes_every_digest_and_its_code_those_of_no_other(copied: Path) -> None:
    before = {task: program_digests(task) for task in get_args(TaskName)}
    for key in program_digests():
        assert len({digests[key] for digests in before.values()}) == len(before), key
    (copied / "pipeline/tasks/segmentation.py").write_text("# another\n")
    assert program_digests() == program_digests("classification") == before["classification"]
    changed = program_digests("segmentation")
    assert all(changed[key] != digest for key, digest in before["segmentation"].items())


def test_a_file_with_the_name_of_a_task_counts_everywhere_but_among_the_tasks(copied: Path) -> None:
    before = program_digests()
    (copied / "pipeline/data/segmentation.py").write_text("# new\n")
    assert all(program_digests()[key] != digest for key, digest in before.items())


def test_what_python_compiles_changes_no_digest(copied: Path) -> None:
    before = program_digests()
    (copied / "pipeline/labels/__pycache__").mkdir(exist_ok=True)
    (copied / "pipeline/labels/__pycache__/select.cpython-311.pyc").write_bytes(b"x")
    assert program_digests() == before


def test_the_files_beside_the_code_are_those_of_the_repository() -> None:
    assert program_file("dvc.yaml") == ROOT / "dvc.yaml"


def test_without_a_repository_and_an_installation_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "CODE", tmp_path)
    monkeypatch.setattr(program, "files", lambda name: [])
    with pytest.raises(DataError, match=r"dvc\.yaml: was not installed with selftrain"):
        program_file("dvc.yaml")


def test_a_project_without_the_program_gets_it_and_another_keeps_its_own(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    copy_program(tmp_path)
    assert [*(tmp_path / "stages").iterdir()] == []
    for name in ("pipeline/report/page.css", "presets/digits_50.yaml", "selftrain/__main__.py"):
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes()
    assert not [*tmp_path.rglob("*.pyc")]
