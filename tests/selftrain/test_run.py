"""What a run says: its plan, its stages' own lines and what went wrong, and no more."""

from __future__ import annotations

import logging

import pytest

from selftrain.repro import is_news
from tests.integration.project import SMALL, Project, copy_project


def line(name: str, level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord(name, level, "file.py", 1, message, ("any", "1", "file"), None)


@pytest.mark.parametrize(
    ("name", "level", "message", "shown"),
    [
        ("dvc.stage", logging.INFO, "Stage '%s' didn't change, skipping", False),
        ("dvc.stage.run", logging.INFO, "Running stage '%s':", False),
        ("dvc.stage.cache", logging.INFO, "Stage '%s' is cached - skipping run", True),
        ("dvc.output", logging.WARNING, "'%s' is empty.", False),
        ("dvc.repo.reproduce", logging.WARNING, "%s is frozen.", True),
        ("dvc.cli", logging.ERROR, "", True),
    ],
)
def test_of_dvc_only_news_is_shown(name: str, level: int, message: str, shown: bool) -> None:
    assert is_news(line(name, level, message)) == shown


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copy_project(tmp_path_factory.mktemp("run"), SMALL)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_says_what_its_stages_say_and_again_one_line(project: Project) -> None:
    said = project.run("selftrain", "run", "embed")
    beginnings = {each.partition(":")[0] for each in said.stdout.splitlines()}
    assert beginnings == {"run", "scan", "prepare", "embed"}
    assert "empty" not in said.stderr
    assert said.stdout.startswith("run: these are the handwritten digits of the demonstration; ")
    again = project.run("selftrain", "run", "embed").stdout.splitlines()
    assert again[1:] == ["run: nothing to do: every output is up to date"]
    forced = project.run("selftrain", "run", "--", "--force", "embed").stdout
    assert "Running stage 'embed'" in forced
    assert "nothing to do" not in forced


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_went_wrong_is_shown(project: Project) -> None:
    table = project.folder / "corrections.csv"
    kept = table.read_bytes()
    table.write_text("no table\n")
    values = project.parameters()
    project.set_parameters(values | {"data": values["data"] | {"corrections": "corrections.csv"}})
    said = project.run("selftrain", "run", check=False)
    project.set_parameters(values)
    table.write_bytes(kept)
    assert said.returncode != 0
    assert "corrections.csv" in said.stderr
    assert "failed to reproduce 'prepare'" in said.stderr
