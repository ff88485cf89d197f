"""What predict, export and preview wrote they replace; what anybody else wrote stays."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import selftrain.export
import selftrain.predict
import selftrain.preview
from pipeline.program import program_file
from tests.data.helpers import encoded, noise
from tests.integration.project import YAML_FILE
from tests.tiny import prepared_stripes, save_model

ASKED = {
    "p.csv": ("predict", "images", "--model", "models/0"),
    "p.parquet": ("predict", "images", "--model", "models/0"),
    "m.onnx": ("export", "--model", "models/0"),
    "served": ("export", "--model", "models/0"),
    "masks": ("predict", "images", "--model", "models/dense", "--overlay"),
    "p.png": ("preview", "--images", "2"),
    "p.html": ("preview", "--images", "2"),
}
MINE = {"served": "MLmodel", "masks": "predictions.csv"}
MAIN = {
    "predict": selftrain.predict.main,
    "export": selftrain.export.main,
    "preview": selftrain.preview.main,
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with parameters, prepared images, a model and an image to classify."""
    (tmp_path / "params.yaml").write_bytes(program_file("params.yaml").read_bytes())
    (tmp_path / "choices.json").write_text('{"num_ops": 1, "magnitude": 5.0, "trials": []}')
    prepared_stripes(tmp_path / "prepared")
    save_model(tmp_path / "models/0", seed=4)
    dense = {"name": "unet_small", "width": 4}
    save_model(tmp_path / "models/dense", task="segmentation", network=dense, image_size=16)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(encoded(noise(1)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, name: str, *more: str) -> int:
    command, *arguments = ASKED[name]
    monkeypatch.setattr(sys, "argv", [command, *arguments, "--out", name, *more])
    return MAIN[command]()


@pytest.mark.filterwarnings("ignore")  # MLflow, as it is imported
@pytest.mark.parametrize("name", ASKED)
def test_only_its_own_output_is_replaced_unasked(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = project / name
    if not out.suffix:
        out.mkdir()
        (out / MINE[name]).write_text("mine")
    else:
        out.write_text("mine\n")
    assert run(monkeypatch, name) == 2
    assert "did not write it" in (said := capsys.readouterr().err)
    assert said.count("\n") == 1
    if out.suffix:
        assert out.read_text() == "mine\n"
        assert run(monkeypatch, name, "--force") == 0
    else:
        assert run(monkeypatch, name, "--force") == 2
        assert (out / MINE[name]).read_text() == "mine"
        (out / MINE[name]).unlink()
        assert run(monkeypatch, name) == 0
    assert run(monkeypatch, name) == 0
    if out.suffix:
        out.write_bytes(b"")
        assert run(monkeypatch, name) == 0
        assert out.stat().st_size > 0


@pytest.mark.parametrize(
    ("model", "out", "more", "message"),
    [
        ("dense", "p.csv", [], "--out p.csv: each image gets a mask; name a folder"),
        ("dense", "p.parquet", ["--force"], "--out p.parquet: each image gets a mask"),
        ("0", "masks", [], "--out masks: a name in .parquet or .csv"),
        ("0", "p.txt", [], "--out p.txt: a name in .parquet or .csv, or a folder's"),
        ("0", "p.csv", ["--overlay"], "--overlay: draws masks"),
        ("dense", "images", [], "--out images: exists, and selftrain predict did not write it"),
        ("dense", "params.yaml/x", [], "params.yaml is a file, not a folder"),
        ("dense", "learnt/out", [], "--out learnt/out: is in the folder of data.path = 'learnt'"),
        ("0", "learnt/p.csv", ["--force"], "--out learnt/p.csv: is in the folder of data.path"),
    ],
)
def test_each_task_s_answers_go_where_they_fit(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: str,
    out: str,
    more: list[str],
    message: str,
) -> None:
    values = YAML_FILE.load(project / "params.yaml")
    values["data"] |= {"source": "folder", "path": "learnt"}
    (project / "learnt").mkdir()
    YAML_FILE.dump(values, project / "params.yaml")
    before = sorted(project.rglob("*"))
    arguments = ["images", "--model", f"models/{model}", "--out", out, *more]
    monkeypatch.setattr(sys, "argv", ["predict", *arguments])
    assert selftrain.predict.main() == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert sorted(project.rglob("*")) == before
