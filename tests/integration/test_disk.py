"""A disk that is really full or read-only: one line, what was there whole, a rerun finishes."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.small_run import SMALL, contents, make_project
from tests.integration.by_hand import run, start
from tests.integration.project import YAML_FILE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """A tmpfs at `folder` while the block runs; the test is skipped where none can be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "selftrain", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no command mount")
    if mounted.returncode:
        pytest.skip(f"can't mount here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def project(folder: Path) -> None:
    make_project(folder)
    values = copy.deepcopy(SMALL)
    values["augment"]["search"] = None
    YAML_FILE.dump(values, folder / "params.yaml")


def refused(stage: str, folder: Path) -> str:
    """What a stage says that ends with exit code 1 and one line."""
    process = start(stage, folder)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert len(said.splitlines()) == 1, said
    assert said.startswith(f"{stage}: ")
    return said


def test_with_space_made_and_writing_allowed_the_same_commands_go_on(tmp_path: Path) -> None:
    whole, disk = tmp_path / "whole", tmp_path / "disk"
    project(whole)
    run("prepare", whole)
    run("search", whole)
    with small_disk(disk, "size=64k"):
        folder = disk / "project"
        project(folder)
        assert "No space left on device; make space" in refused("prepare", folder)
        remount(disk, "size=64m")
        run("prepare", folder)
        prepared = contents(folder)
        remount(disk, "ro")
        said = refused("search", folder)
        assert ".selftrain" in said
        assert "Read-only file system; make it writable" in said
        assert contents(folder) == prepared
        remount(disk, "rw")
        run("search", folder)
        assert contents(folder) == contents(whole)
