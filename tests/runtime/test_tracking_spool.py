"""A spool that its sender compacts has nothing unsent, whoever looks at it meanwhile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.runtime import tracking_spool
from pipeline.runtime.tracking_spool import (
    Spool,
    append_event,
    compact,
    read_events,
    spool_of,
    unsent_events,
)

URI = "sqlite:///somewhere.db"


def sent_spool(root: Path, *, unsent: int = 0) -> Spool:
    spool = spool_of(root, "report-0123")
    spool.folder.mkdir(parents=True)
    for step in range(3):
        append_event(spool, {"kind": "metrics", "step": step, "values": {"loss": 1.0}})
    sent = {"uri": URI, "bytes": spool.events.stat().st_size}
    spool.sent.write_text(json.dumps(sent), encoding="utf-8")
    for _ in range(unsent):
        append_event(spool, {"kind": "status", "status": "FINISHED"})
    return spool


@pytest.mark.parametrize("unsent", [0, 2])
def test_what_is_not_sent_is_counted(tmp_path: Path, unsent: int) -> None:
    assert unsent_events(sent_spool(tmp_path, unsent=unsent)) == unsent


def test_a_spool_compacted_between_two_looks_has_nothing_unsent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, before = sent_spool(tmp_path), tracking_spool.sent_bytes

    def compacted_then(spool: Spool) -> int:
        offset = before(spool)
        compact(spool, URI)
        return offset

    monkeypatch.setattr(tracking_spool, "sent_bytes", compacted_then)
    assert unsent_events(spool) == 0
    assert not spool.events.exists()
    assert unsent_events(spool) == 0
    assert read_events(spool) == []
