"""What changes while a stage runs is not recorded as what the stage has read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.workflow.unchanged import dependencies, unchanged_dependencies

DVC_YAML = """
stages:
  train:
    foreach: ${generations}
    do:
      cmd: train ${key}
      deps: [code, corrections.csv, "models/${item.teacher}"]
      params: [seed, "generations.${key}.student"]
"""
PARAMS = """
seed: 1
generations: {"1": {teacher: "0", student: {steps: 1}}, "2": {teacher: "1", student: {}}}
"""
FILES = ("code/a.py", "code/__pycache__/a.pyc", "corrections.csv", "models/0/m", "models/1/m")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DVC_STAGE", "train@1")
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "params.yaml").write_text(PARAMS)
    return tmp_path


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text((root / name).read_text().replace(old, new))


def replaced(root: Path) -> None:
    """By a file of the same size and time, as `cp -p` and `mv` leave it."""
    path, status = root / "models/0/m", (root / "models/0/m").stat()
    (root / "new").write_text("MODELS/0/m")
    os.utime(root / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    (root / "new").rename(path)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (edit("params.yaml", "seed: 1", "seed: 2"), "params.yaml: seed"),
        (edit("params.yaml", "steps: 1", "steps: 2"), "params.yaml: generations.1.student"),
        (edit("code/a.py", "a", "b"), "code/a.py"),
        (edit("corrections.csv", "c", "d"), "corrections.csv"),
        (lambda root: (root / "code/new.py").touch(), "code/new.py"),
        (replaced, "models/0/m"),
    ],
)
def test_a_change_of_what_the_stage_depends_on_is_refused(
    root: Path, change: Callable[[Path], object], name: str
) -> None:
    with (
        pytest.raises(DataError, match=rf"^{name}: changed while the stage ran; selftrain run"),
        unchanged_dependencies(root),
    ):
        change(root)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: None,
        edit("params.yaml", 'teacher: "1", student: {}', 'teacher: "1", student: {steps: 9}'),
        edit("params.yaml", "seed", "run: {actors: 3}\nseed"),
        edit("models/1/m", "m", "n"),
        lambda root: (root / "models/0/m").unlink(),
    ],
)
def test_what_it_does_not_depend_on_may_change(
    root: Path, change: Callable[[Path], object]
) -> None:
    with unchanged_dependencies(root):
        change(root)


def test_by_hand_nothing_is_recorded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_STAGE")
    with unchanged_dependencies(root):
        (root / "params.yaml").write_text("")


def test_the_repository_s_own_stages_have_all_that_they_name() -> None:
    found = dependencies(Path(__file__).parents[2], "train_student@1")
    assert {"params.yaml: seed", "params.yaml: generations.1.student"} <= {*found}
    assert {"choices.json", "models/0", "pseudo_labels/1"} <= {*found}
    assert not [name for name in found if "$" in name]
