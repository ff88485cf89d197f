"""One function makes a project; where that fails it says which step did."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import SelftrainError
from pipeline.program import program_file
from selftrain import fit_folder


def test_images_that_are_not_there_end_it_with_the_line_that_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    with pytest.raises(SelftrainError, match="selftrain init: ended with code 1, see above"):
        fit_folder(tmp_path / "nothing", project)
    assert "nothing: no such folder, CSV or Parquet file" in capfd.readouterr().err
    demo = (project / "params.yaml").read_bytes()
    assert demo == program_file("params.yaml").read_bytes()  # so that the next call looks again
