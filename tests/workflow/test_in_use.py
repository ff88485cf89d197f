"""What a command reads in storage is not removed while it runs; real git, DVC and storage."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from datetime import timedelta
from pathlib import Path

import pytest

from cluster.gc import main
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import IN_USE, MARK_LASTS
from pipeline.workflow import in_use
from pipeline.workflow.in_use import Marks
from tests.cluster.project import run, set_parameters, start_project, write_shards_of

STAGE = """
import sys
from pipeline.workflow.stage import run_stage

def read(stage):
    print("reading", flush=True)
    sys.stdin.read()

run_stage("train_teacher", read)
"""


@pytest.fixture
def project(tmp_path: Path, storage_url: str) -> Path:
    """A repository with predictions in storage that no commit names."""
    folder = tmp_path / "project"
    start_project(folder)
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", "start")
    set_parameters(folder, 1, storage_url)
    write_shards_of(folder)
    (prefix,) = prefixes(storage_url)
    prefix.remove(IN_USE)  # as if it were long ago
    return folder


def prefixes(url: str) -> list[StoredFolder]:
    shards = StoredFolder(url) / "shards"
    return [shards / name for name in sorted({o.path.split("/")[0] for o in shards.listing()})]


def gc_elsewhere(project: Path) -> int:
    """`gc --delete --min-age 0` in a clone, which has no predictions."""
    clone = project.parent / "clone"
    shutil.copytree(project, clone, dirs_exist_ok=True)
    shutil.rmtree(clone / "predictions")
    time.sleep(1.1)  # an object store's times are whole seconds
    with chdir(clone), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gc", "--delete", "--min-age", "0"])
        return main()


def wait_until(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_what_a_stage_reads_stays_until_it_is_killed_and_its_mark_is_old(
    project: Path, storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", STAGE]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=project, stdin=pipe, stdout=pipe, text=True) as stage:
        assert stage.stdout is not None
        assert stage.stdout.readline() == "reading\n"
        assert gc_elsewhere(project) == 0
        (prefix,) = prefixes(storage_url)
        assert len(prefix.sizes()) == 2
        stage.kill()
    assert gc_elsewhere(project) == 0
    assert len(prefix.sizes()) == 2
    monkeypatch.setattr("cluster.gc.MARK_LASTS", timedelta(0))
    assert gc_elsewhere(project) == 0
    assert prefixes(storage_url) == []


def test_marks_are_renewed_until_the_end(
    project: Path, storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert timedelta(seconds=3 * in_use.RENEW_SECONDS) <= MARK_LASTS
    monkeypatch.setattr(in_use, "RENEW_SECONDS", 0.01)
    (read,) = prefixes(storage_url)
    written = StoredFolder(storage_url) / "shards" / f"predictions-{'0' * 32}"
    marks = Marks(project)
    with marks.renewed():
        assert IN_USE in read.sizes()
        marks.add(written)
        for prefix in (read, written):
            for _ in range(2):
                wait_until(lambda prefix=prefix: IN_USE in prefix.sizes())  # type: ignore[misc]
                prefix.remove(IN_USE)
    for prefix in (read, written):
        prefix.remove(IN_USE)
    time.sleep(0.1)
    assert not any(IN_USE in prefix.sizes() for prefix in (read, written))


def test_a_mark_that_can_not_be_written_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage, folder = tmp_path / "storage", tmp_path / "project"
    start_project(folder)
    set_parameters(folder, 1, storage.as_uri())
    (storage / "shards" / write_shards_of(folder) / IN_USE).unlink()
    (storage / "shards" / prefixes(storage.as_uri())[0].name / IN_USE).mkdir()
    marks = Marks(folder)
    for _ in range(2):
        with marks.renewed():
            pass
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("warning: not marked as in use, so selftrain gc may remove it: file://")


def test_without_storage_nothing_is_marked(tmp_path: Path) -> None:
    start_project(tmp_path / "project")
    set_parameters(tmp_path / "project", 1, None)
    write_shards_of(tmp_path / "project")
    before = sorted(tmp_path.rglob("*"))
    with Marks(tmp_path / "project").renewed():
        pass
    assert sorted(tmp_path.rglob("*")) == before
