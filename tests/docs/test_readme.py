"""README.md and docs/runs.md: commands run word for word, the table of presets is whole.

Its links and snippets are held by test_pages.py, as every page's.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.blocks import blocks
from tests.docs.test_pages import merged
from tests.integration.project import SMALL, copy_project, stages_run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUNS = (ROOT / "docs/runs.md").read_text(encoding="utf-8")


def commands(text: str) -> list[str]:
    """The commands of a block, without their comments."""
    return [line.partition("  #")[0].strip() for line in text.splitlines() if line.strip()]


def test_the_table_of_presets_names_them_all() -> None:
    named = re.findall(r"^\| `(\w+)` \|", RUNS, re.M)
    presets = {path.stem for path in (ROOT / "presets").glob("*.yaml")}
    assert presets == set(named)


def test_what_make_is_asked_for_is_there() -> None:
    targets = set(re.findall(r"\bmake ([a-z][a-z-]*)", README)) - {"and"}
    assert {"demo", "test"} <= targets
    for target in targets:
        assert would_run(target)
    assert would_run("demo")[-1].split()[-2:] == ["selftrain", "run"]


def test_what_make_lists_is_seen_at_one_glance() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line for line in listed.stdout.splitlines() if not line.startswith("make[")]
    assert 10 <= len(lines) <= 15
    assert max(map(len, lines)) <= 110


def test_it_is_read_in_three_minutes() -> None:
    assert 500 <= len(README.split()) <= 700


def would_run(target: str) -> list[str]:
    """The commands of `make target`, whether or not a make has started this test."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    asked = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, env=alone, capture_output=True, text=True
    )
    assert asked.returncode == 0, f"make {target}: {asked.stderr}"
    return asked.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_commands_of_a_run_do_what_they_say(tmp_path: Path) -> None:
    block = next(text for text in blocks("docs/runs.md", "bash") if "dvc metrics diff" in text)
    every = {"confidence_threshold": 0.0, "fraction_per_class": None}  # a threshold takes some
    project = copy_project(tmp_path, merged(SMALL, {"generations": {"2": {"select": every}}}))
    project.run("dvc", "repro", "prepare")  # as the page has run `make demo` before it
    said = {}
    for command in commands(block):
        said[command] = project.run("bash", "-c", command).stdout
    assert (tmp_path / "preview.png").read_bytes().startswith(b"\x89PNG")
    assert "test/accuracy" in said["dvc metrics show"]
    assert (project.folder / "dvc_plots" / "index.html").exists()
    tried = next(text for command, text in said.items() if command.startswith("dvc exp run"))
    assert stages_run(tried) == ["select@2", "train_student@2", "evaluate@2", "ensemble", "report"]
    assert "coverage" in said["dvc metrics diff"]
