"""What would stop a run later is said before any work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.errors import DataError
from pipeline.files import file_digest
from pipeline.params import load_params
from pipeline.program import program_file
from selftrain.new import main as new
from selftrain.plan import planned_stages
from selftrain.status import main
from tests.bad_input.special import special


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
