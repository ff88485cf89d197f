"""Where a command may write is known before it works."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.runs import ROOT
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


PROGRAM = """
import sys
from pathlib import Path
from pipeline.progress import say
from pipeline.workflow.command import exit_code
def work():
    with Path("out.txt").open("w") as file:
        say("a – b" * 9999)
        print("direct")
        file.write("done")
sys.exit(exit_code("command", work, ""))
"""


@pytest.mark.parametrize(
    "shell",
    [
        "CMD",
        "CMD >&-",
        "CMD >&- 2>&- <&-",
        "CMD | true; exit ${PIPESTATUS[0]}",
        "CMD > /dev/full",
        "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 CMD",
        "PYTHONIOENCODING=ascii CMD",
    ],
)
def test_the_work_is_done_whoever_listens(shell: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = shell.replace("CMD", f"{sys.executable} program.py")
    ended = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert (tmp_path / "out.txt").read_text() == "done"
