"""Folders of shards that a job works on are left alone, by the storage's clock."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import chdir
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from cluster.gc import Prefix, main, prefixes_in
from pipeline.data.storage import StoredFolder, StoredObject
from pipeline.data.stored_shards import mark_in_use
from tests.cluster.project import run, set_parameters, start_project

HEX = "0123456789abcdef"


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of shards, two days old, that no commit of the project beside it names."""
    start_project(tmp_path / "project")
    set_parameters(tmp_path / "project", 1, (tmp_path / "storage").as_uri())
    run(tmp_path / "project", "git", "add", "-A")
    run(tmp_path / "project", "git", "commit", "-q", "-m", "start")
    folder = tmp_path / "storage" / "shards" / f"test-{HEX}{HEX}"
    folder.mkdir(parents=True)
    for name in (f"shard_00000-{HEX}.parquet", "in_use"):
        (folder / name).write_text("x")
        grow_old(folder / name, hours=48)
    return folder


def grow_old(path: Path, hours: float) -> None:
    time = (datetime.now(UTC) - timedelta(hours=hours)).timestamp()
    os.utime(path, (time, time))


def collect(shards: Path, *arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch, chdir(shards.parents[2] / "project"):
        patch.setattr("sys.argv", ["gc", "--delete", *arguments])
        return main()


def test_a_mark_holds_for_an_hour_at_any_age(
    shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shards / "in_use").touch()
    assert collect(shards, "--min-age", "0") == 0
    assert "in use: left alone" in capsys.readouterr().out
    assert len(list(shards.iterdir())) == 2
    grow_old(shards / "in_use", hours=61 / 60)
    assert collect(shards, "--min-age", "1") == 0
    assert not shards.exists()


def test_a_job_that_comes_after_the_listing_is_left_alone(
    shards: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def and_then_a_job_comes(listing: Iterable[StoredObject]) -> list[Prefix]:
        monkeypatch.undo()
        found = prefixes_in(listing)
        mark_in_use(StoredFolder(shards.as_uri()))
        return found

    monkeypatch.setattr("cluster.gc.prefixes_in", and_then_a_job_comes)
    assert collect(shards) == 0
    said = capsys.readouterr().out
    assert "in use since it was listed: left alone" in said
    assert "removed 0 (0 bytes)" in said
    assert len(list(shards.iterdir())) == 2


def test_ages_are_by_the_clock_of_the_storage(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Ahead:
            return cls.fromtimestamp(2**32, tz)

    (shards / "in_use").touch()
    monkeypatch.setattr("cluster.gc.datetime", Ahead)
    assert collect(shards) == 0
    assert len(list(shards.iterdir())) == 2
