"""One function makes a project; where that fails it says which step did."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.errors import ParameterError, SelftrainError
from pipeline.program import program_file
from selftrain import fit_folder
from selftrain.new import main as new


def test_images_that_are_not_there_end_it_with_the_line_that_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    with pytest.raises(SelftrainError, match="selftrain init: ended with code 1, see above"):
        fit_folder(tmp_path / "nothing", project)
    assert "nothing: no such folder, CSV or Parquet file" in capfd.readouterr().err
    demo = (project / "params.yaml").read_bytes()
    assert demo == program_file("params.yaml").read_bytes()  # so that the next call looks again


def test_a_project_of_other_images_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, other = tmp_path / "project", tmp_path / "other"
    monkeypatch.setattr(sys, "argv", ["new", str(project)])
    assert new() == 0
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
