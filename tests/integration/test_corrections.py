"""A person's labels through DVC: from the report's page into the next run."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest

from tests.integration.project import SMALL, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_labels_from_the_page_are_learnt_by_the_next_run(tmp_path: Path) -> None:
    parameters = copy.deepcopy(SMALL)
    parameters["train"]["steps"] = 4
    del parameters["generations"]["2"]
    project = copy_project(tmp_path / "project", parameters)
    project.repro()
    page = (project.folder / "report" / "index.html").read_text()
    times = (project.folder / "report" / "times.html").read_text()
    before = project.json("metrics/prepare.json")
    assert "corrected" not in before
    assert "Worth a label most" in page
    for stage in ("prepare", "pseudo_label@1", "train_student@1", "ensemble"):
        assert f'<th scope="row">{stage}</th>' in times
    project.run("dvc", "repro", "--force", "--single-item", "report")
    assert (project.folder / "report" / "index.html").read_text() == page

    first, second = list(dict.fromkeys(re.findall(r"data-id='\"(\w+)\"'", page)))[:2]
    (project.folder / "corrections.csv").write_text(f"id,label\n{first},7\n{second},\n")
    parameters["data"]["corrections"] = "corrections.csv"
    project.set_parameters(parameters)
    assert "train_teacher" in project.repro()
    after = project.json("metrics/prepare.json")
    assert (after["corrected"], after["excluded"], after["corrections_unused"]) == (1, 1, 0)
    assert after["labeled"] == before["labeled"] + 1
    assert after["unlabeled"] == before["unlabeled"] - 2
    page = (project.folder / "report" / "index.html").read_text()
    assert first not in re.findall(r"data-id='\"(\w+)\"'", page)
    assert "labelled by a person" in page
    (project.folder / "corrections.csv").write_text("id,label\nnobody,7\n")
    answer = project.run("dvc", "repro", "prepare", check=False)
    assert answer.returncode != 0
    assert "no image of the source has the id 'nobody'" in answer.stderr + answer.stdout
