"""What would stop a run later is said before any work."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.errors import BusyError, DataError
from pipeline.files import file_digest, write_json
from pipeline.params import load_params
from pipeline.program import program_file
from selftrain.new import main as new
from selftrain.plan import check_idle, planned_stages
from selftrain.status import main
from tests.bad_input.special import special

DVC_YAML = "stages: {make: {cmd: touch out, deps: [in], outs: [out, folder]}}"


@pytest.mark.parametrize("name", ["program.json", "source.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\0", "folder", "pipe"])
def test_what_scan_can_not_have_written_is_one_line(
    tmp_path: Path, name: str, content: str
) -> None:
    if content in ("folder", "pipe"):
        special(tmp_path / name, content)
    else:
        (tmp_path / name).write_text(content)
    params = load_params(program_file("params.yaml"))
    with pytest.raises(DataError, match=rf"{name}: .*; remove it, scan writes it anew$"):
        planned_stages(tmp_path, params)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "socket", "/dev/zero"])
@pytest.mark.parametrize("name", ["dvc.yaml", "dvc.lock", "in", "out", "folder/a/b"])
def test_a_special_file_is_not_waited_for(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = True\n    analytics = false\n")
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).unlink(missing_ok=True)
    special(tmp_path / name, kind)
    params = load_params(program_file("params.yaml"))
    with pytest.raises(DataError, match=rf"/{name}: not a regular file; remove it"):
        planned_stages(tmp_path, params)


def test_a_run_at_work_is_one_line(tmp_path: Path) -> None:
    check_idle(tmp_path)
    path = tmp_path / ".dvc" / "tmp" / "rwlock"
    for pid, is_alive in (
        (2**22 + 1, False),
        (os.getpid(), True),
    ):  # one that is gone, and a living one
        info = {"pid": pid, "cmd": "dvc repro"}
        for lock in ({"write": {"out": info}}, {"write": {}, "read": {"in": [info]}}):
            write_json(path, lock)
            if not is_alive:
                check_idle(tmp_path)
                continue
            with pytest.raises(BusyError, match=rf"process {pid} \(dvc repro\); wait for it"):
                check_idle(tmp_path)
    for damaged in ("", "{", "[]", '{"write": 5}', '{"write": {"a": 5}}', '{"read": {"a": [5]}}'):
        path.write_text(damaged)
        check_idle(tmp_path)


def status(project: Path, monkeypatch: pytest.MonkeyPatch, **sections: dict[str, Any]) -> int:
    """The exit code of `selftrain status` in `project` with the demo's params.yaml so changed."""
    values: Any = YAML().load(program_file("params.yaml").read_text("utf-8"))
    for name, section in sections.items():
        values[name] |= section
    with (project / "params.yaml").open("w") as file:
        YAML().dump(values, file)
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["status"])
    return main()


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of DVC's use of a library
@pytest.mark.parametrize("section", ["transfer", "embed"])
def test_weights_are_looked_at_before_any_work_and_the_images_before_them(
    section: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project = tmp_path / "project"
    monkeypatch.setattr(sys, "argv", ["new", str(project)])
    assert new() == 0
    weights = {"source": "weights.pth"}
    if section == "embed":
        weights |= {"name": "resnet18"}
    gone = {"source": "folder", "path": str(tmp_path / "gone")}
    assert status(project, monkeypatch, data=gone, **{section: weights}) == 1
    assert "gone': no such file or folder" in capsys.readouterr().err
    assert status(project, monkeypatch, **{section: weights}) == 1
    assert f"{section}.source = '{project}/weights.pth': neither" in capsys.readouterr().err
    (project / "weights.pth").write_bytes(b"weights")
    assert status(project, monkeypatch, **{section: weights}) == 2
    digest = file_digest(project / "weights.pth")
    said = capsys.readouterr().err
    assert said.startswith(f"status: {section}.sha256 = None: 'weights.pth' is {digest}; set that")
    assert said.count("\n") == 1


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of DVC's use of a library
def test_answers_that_nothing_reads_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    monkeypatch.setattr(sys, "argv", ["new", str(project)])
    assert new() == 0
    assert status(project, monkeypatch) == 0
    assert "corrections.csv" not in capsys.readouterr().out
    with (project / "corrections.csv").open("a") as file:
        file.write("a.png,cat\n")
    assert status(project, monkeypatch) == 0
    assert "corrections.csv has answers that nothing reads; set" in capsys.readouterr().out
    assert status(project, monkeypatch, data={"corrections": "corrections.csv"}) == 0
    assert "that nothing reads" not in capsys.readouterr().out
