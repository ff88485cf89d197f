"""What hostile input can't do: run code, leave its folder, or get onto a page as markup."""

from __future__ import annotations

import ast
import csv
import json
import os
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from pipeline.data.shards import MANIFEST, read_manifest
from pipeline.errors import CheckpointError, DataError
from pipeline.evaluate.label_issues import LabelIssue, read_label_issues, write_label_issues
from pipeline.models.checkpoint import load_checkpoint
from pipeline.models.pretrained import read_file
from pipeline.models.spec import WEIGHTS
from pipeline.ray.session import QUIET, quiet_ray
from pipeline.report.page import render_report
from pipeline.tracking.tracker import QUIET as SENDER_QUIET
from tests.report.example import example_report
from tests.tiny import save_model

ROOT = Path(__file__).parents[1]
CODE = [
    path
    for folder in ("pipeline", "stages", "cluster", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def problems(tree: ast.AST) -> list[str]:
    """What in a module could unpickle, evaluate text or start a shell."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [item.name for item in node.names if item.name.split(".")[0] in UNPICKLERS]
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNPICKLERS:
            found.append(str(node.module))
        if isinstance(node, ast.Call):
            found += _problems_of_call(node)
    return found


def _problems_of_call(node: ast.Call) -> list[str]:
    called = ast.unparse(node.func)
    given = {item.arg: ast.unparse(item.value) for item in node.keywords}
    wrong = [
        called in ("torch.load", "load_state_dict_from_url")
        and given.get("weights_only") != "True",
        called.endswith("read_pickle") or called in ("eval", "exec", "os.system"),
        called in ("np.load", "numpy.load") and given.get("allow_pickle") != "False",
        given.get("allow_pickle", "False") != "False",
        given.get("shell", "False") != "False",
        given.get("trust_remote_code", "False") != "False",
    ]
    return [ast.unparse(node)] * any(wrong)


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "subprocess.run(text, shell=True)",
        "eval(text)",
    ],
)
def test_the_search_finds_what_it_looks_for(line: str) -> None:
    assert problems(ast.parse(line))


def test_no_code_here_unpickles_evaluates_or_starts_a_shell() -> None:
    assert len(CODE) > 100
    found = {str(path): problems(ast.parse(path.read_text())) for path in CODE}
    assert {path: what for path, what in found.items() if what} == {}


class Payload:
    """Unpickling it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, zipped: bool) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / "weights.pth"
    torch.save({"w": Payload(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="not readable as weights"):
        read_file(path, "resnet_small")
    save_model(tmp_path / "model")
    (tmp_path / "model" / WEIGHTS).write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match="safetensors"):
        load_checkpoint(tmp_path / "model")
    assert not mark.exists()
    torch.load(path, weights_only=False)  # to show that it would have
    assert mark.exists()


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/x.parquet", "../x.parquet", "a/../x.parquet", "a/x.parquet", "..\\x.parquet"),
        *("C:\\x.parquet", "x.parquet\0", "\0.parquet", ".x.parquet", "x", "", "x.parquet\n"),
    ],
)
def test_a_manifest_names_nothing_outside_its_folder(tmp_path: Path, name: str) -> None:
    entry = {"file": name, "rows": 1, "sha256": "0" * 64}
    (tmp_path / MANIFEST).write_text(json.dumps({"rows": 1, "shards": [entry]}))
    with pytest.raises(DataError, match="not the name of a shard"):
        read_manifest(tmp_path)


class Elements(HTMLParser):
    """The names of a page's elements, its attributes that run code, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.handlers: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.handlers += [key for key, value in attrs if key.startswith("on")]
        self.handlers += [key for key, value in attrs if "javascript:" in (value or "")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_names_in_the_report_are_text() -> None:
    nasty = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</svg><b>", "d")
    issue = LabelIssue(nasty[0], nasty[1], nasty[2], 0.1, 0.8, 0.7)
    data = replace(example_report(nasty), label_issues=(issue,), dataset=nasty[0])
    page, plain = Elements(), Elements()
    page.feed(render_report(data))
    other = LabelIssue("a", "b", "c", 0.1, 0.8, 0.7)
    plain.feed(render_report(replace(example_report(("a", "b", "c", "d")), label_issues=(other,))))
    assert page.names == plain.names
    assert not page.names & {"script", "img", "b", "iframe"}
    assert page.handlers == []
    assert "<script>alert(1)</script>" in page.text


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "'quoted", "plain", ""])
def test_no_name_in_the_list_of_labels_is_a_formula(tmp_path: Path, name: str) -> None:
    issue = LabelIssue(name, name, name, 0.25, 0.5, 0.25)
    write_label_issues(tmp_path / "issues.csv", [issue])
    with (tmp_path / "issues.csv").open(newline="") as file:
        cells = list(csv.reader(file))[1][:3]
    assert all(not cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    assert read_label_issues(tmp_path / "issues.csv") == [issue]


def test_no_usage_statistics_leave_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in QUIET:
        monkeypatch.delenv(name, raising=False)
    quiet_ray()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert SENDER_QUIET["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert "analytics = false" in (ROOT / ".dvc" / "config").read_text()
    assert "DVC_NO_ANALYTICS := 1" in (ROOT / "Makefile").read_text()
