"""dvc.yaml watches the code of the method that each stage runs; what it names is in every file."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any

import grimp
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
YAMLS = [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]
METHOD = ("data", "augment", "models", "evaluate", "labels", "train")
STAGES: dict[str, Any] = {
    name: stage.get("do", stage)
    for name, stage in YAML(typ="safe")
    .load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    .items()
}


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("pipeline", "stages")


def files_of(module: str, imports: grimp.ImportGraph) -> set[str]:
    """The files of the method, and of stages, that a module runs, however far away."""
    used = imports.find_upstream_modules(module) | {module}
    parts = [name.split(".") for name in used]
    chosen = [part for part in parts if part[0] == "stages" or (part[1:2] and part[1] in METHOD)]
    paths = [Path(*part) for part in chosen]
    return {f"{path}.py" for path in paths if not (ROOT / path).is_dir()}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_every_module_of_the_method_that_it_runs(
    name: str, imports: grimp.ImportGraph
) -> None:
    stage = STAGES[name]
    module = "stages." + stage["cmd"].split("stages.")[1].split()[0]
    files = files_of(module, imports)
    assert len(files) > 2
    unwatched = {
        file
        for file in files
        if not any(file == part or file.startswith(f"{part}/") for part in stage["deps"])
    }
    assert not unwatched


def test_only_evaluation_and_the_baseline_see_what_is_made_of_test_images() -> None:
    users = {name for name, stage in STAGES.items() if "features/test" in stage["deps"]}
    assert {name.partition("_")[0] for name in users} <= {"evaluate", "baseline"}


@pytest.mark.parametrize("name", STAGES)
def test_no_stage_runs_again_for_how_fast_it_goes(name: str) -> None:
    params = STAGES[name].get("params", [])
    assert not [key for key in params if key.partition(".")[0] == "run"]


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_parameter_that_a_stage_names_is_in_the_file(path: Path) -> None:
    """DVC stops at one that is not, whatever its default."""
    values: Any = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    for name, stage in STAGES.items():
        for key in stage.get("params", []):
            if "$" in key:
                continue
            try:
                reduce(lambda section, part: section[part], key.split("."), values)
            except KeyError:
                pytest.fail(f"{path.name}: no {key}, which the stage {name} names")
