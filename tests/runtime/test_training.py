"""The history of a run that was killed goes on with whole lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.runtime.training import _keep_whole_lines
from pipeline.train.history import read_history


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (b"", b""),
        (b"torn", b""),
        (b"one\n", b"one\n"),
        (b"one\ntwo\n", b"one\ntwo\n"),
        (b"one\ntwo\nto", b"one\ntwo\n"),
        (b"\n\ntorn", b"\n\n"),
    ],
)
def test_a_torn_last_line_is_cut(tmp_path: Path, left: bytes, kept: bytes) -> None:
    history = tmp_path / "history.jsonl"
    history.write_bytes(left)
    _keep_whole_lines(history)
    assert history.read_bytes() == kept


def test_a_run_without_a_history_gets_none(tmp_path: Path) -> None:
    _keep_whole_lines(tmp_path / "history.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_what_is_appended_after_a_kill_is_read_whole(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    history.write_text('{"step": 1, "values": {"loss": 2.0}}\n{"step": 2, "val', encoding="utf-8")
    _keep_whole_lines(history)
    with history.open("a", encoding="utf-8") as file:
        file.write('{"step": 2, "values": {"loss": 1.0}}\n')
    assert [(point.step, point.values["loss"]) for point in read_history(history)] == [
        (1, 2.0),
        (2, 1.0),
    ]
