"""One function makes a project; where that fails it says which step did."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ParameterError, SelftrainError
from pipeline.program import program_file
from selftrain import fit_folder
from selftrain.fit import Fitted
from selftrain.new import main as new


def test_images_that_are_not_there_leave_no_project(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="nothing': no such folder, CSV or Parquet file"):
        fit_folder(tmp_path / "nothing", tmp_path / "project")
    assert not (tmp_path / "project").exists()


def test_a_step_that_fails_is_named_and_the_next_call_looks_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    project, empty = tmp_path / "project", tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SelftrainError, match="selftrain init: ended with code 1, see above"):
        fit_folder(empty, project)
    assert "empty" in capfd.readouterr().err
    demo = (project / "params.yaml").read_bytes()
    assert demo == program_file("params.yaml").read_bytes()


@pytest.mark.parametrize("images", ["my_images", Path("my_images"), b"an image"])
def test_images_to_classify_are_a_list(images: Any, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"must be a list of files, as list\(Path"):
        Fitted(tmp_path).predict(images)


def test_a_project_of_other_images_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, other = tmp_path / "project", tmp_path / "other"
    monkeypatch.setattr(sys, "argv", ["new", str(project)])
    assert new() == 0
    other.mkdir()
    params = project / "params.yaml"
    demo = params.read_text("utf-8").replace("seed: 0\n", "seed: 1\n")
    own = demo.replace("source: digits ", "source: folder ").replace(
        "path: null ", "path: ../mine "
    )
    for text, path in ((demo, "None"), (own, "'../mine'")):
        params.write_text(text, "utf-8")
        with pytest.raises(
            ParameterError, match=rf"data.path = {path}: .* of other images"
        ) as found:
            fit_folder(other, project)
        assert str(other) in str(found.value)
