"""A spool: what is unsent, what a killed writer leaves, and what is kept of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.files import write_json
from pipeline.tracking import spool as module
from pipeline.tracking.spool import Spool, all_spools, spool_of


def filled(root: Path, key: str = "report-0123", started: float = 1.0) -> Spool:
    spool = spool_of(root, key)
    spool.folder.mkdir(parents=True)
    spool.open({"started": started})
    for step in range(3):
        spool.append({"kind": "metrics", "step": step, "values": {"loss": 1.0}})
    return spool


@pytest.mark.parametrize("unsent", [0, 2])
def test_what_is_not_sent_is_counted(tmp_path: Path, unsent: int) -> None:
    spool = filled(tmp_path)
    write_json(spool.sent, {"uri": "sqlite:///a.db", "bytes": spool.events.stat().st_size})
    for _ in range(unsent):
        spool.append({"kind": "status", "status": "FINISHED"})
    assert spool.unsent() == unsent
    assert spool.sent_bytes("sqlite:///b.db") == 0  # another server has nothing


def test_a_spool_emptied_between_two_looks_has_nothing_unsent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, before = filled(tmp_path), Spool.sent_bytes

    def emptied_then(self: Spool, uri: str | None = None) -> int:
        offset = before(self, uri)
        self.empty()
        return offset

    monkeypatch.setattr(Spool, "sent_bytes", emptied_then)
    assert spool.unsent() == 0
    assert spool.read() == []
    assert all_spools(tmp_path) == []


def test_a_torn_line_is_dropped_and_the_start_of_the_work_stays(tmp_path: Path) -> None:
    spool = filled(tmp_path, started=1.0)
    whole = spool.events.read_bytes()
    spool.events.write_bytes(whole + b'{"kind": "metr')
    assert len(spool.read()) == 3
    spool.open({"started": 2.0})
    assert spool.events.read_bytes() == whole
    other = filled(tmp_path, "prepare-4567", started=0.5)
    later = filled(tmp_path, "search-89ab", started=1.5)
    assert [each.folder for each in all_spools(tmp_path)] == [
        each.folder for each in (other, spool, later)
    ]


def test_a_mark_without_events_does_not_count_for_later_ones(tmp_path: Path) -> None:
    spool = filled(tmp_path)
    write_json(spool.sent, {"uri": "sqlite:///a.db", "bytes": 10_000})
    spool.events.unlink()  # killed here while it was emptied
    spool.open({"started": 3.0})
    spool.append({"kind": "status", "status": "RUNNING"})
    assert spool.unsent() == 1


@pytest.mark.parametrize("copied_bytes", [0, 100])
def test_files_are_kept_as_they_are_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied_bytes: int
) -> None:
    monkeypatch.setattr(module, "COPY_BYTES", copied_bytes)
    spool, path = filled(tmp_path), tmp_path / "model" / "weights"
    write_json(path, 1)
    places = [spool.folder / spool.keep(path.parent)]
    write_json(path, 2)  # replaced, not rewritten
    places.append(spool.folder / spool.keep(path.parent))
    assert [(place / "weights").read_text() for place in places] == ["1\n", "2\n"]
