"""Where a command may write is known before it works."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from selftrain.export import main as export
from selftrain.predict import main as predict


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (predict, ["images", "--out", "x.csv"], "--out x.csv: is a folder"),
        (predict, ["images", "--out", "file/p.csv"], "file is a file, not a folder"),
        (export, ["--out", "file/m.onnx"], "file is a file, not a folder"),
        (export, ["--out", "file/model"], "file is a file, not a folder"),
        (export, ["--out", "/proc/model"], "/proc can't be written to"),
    ],
)
def test_a_place_that_can_not_be_written_to_is_refused_first(
    main: Callable[[], int],
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "x.csv").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    assert main() == 2
    assert message in capsys.readouterr().err
