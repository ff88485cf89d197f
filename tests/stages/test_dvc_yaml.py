"""dvc.yaml watches the code of the method that each stage runs; what it names is in every file."""

from __future__ import annotations

from fnmatch import fnmatch
from functools import reduce
from pathlib import Path
from typing import Any, get_args

import grimp
import pytest
from ruamel.yaml import YAML

from pipeline.params import Params, load_params
from pipeline.params.sections import TaskName
from pipeline.program import CODE_OF, program_digests
from tests.stages.reads import read_members, read_parameters

ROOT = Path(__file__).parents[2]
YAMLS = [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]
METHOD = ("data", "augment", "models", "tasks", "evaluate", "labels", "train", "self_training")
DVC_YAML: Any = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES: dict[str, Any] = {
    name: stage.get("do", stage) for name, stage in DVC_YAML["stages"].items()
}
FOREACH = {name: stage.get("foreach") for name, stage in DVC_YAML["stages"].items()}


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    graph = grimp.build_graph("pipeline", "stages", exclude_type_checking_imports=True)
    for task in (f"pipeline.tasks.{name}" for name in get_args(TaskName)):
        graph.add_import(importer="pipeline.tasks", imported=task)  # by open_task, by its name
        for module in graph.find_modules_directly_imported_by(task):
            if module.startswith("pipeline.augment"):  # within `mix`, which training alone calls
                graph.remove_import(importer=task, imported=module)
    return graph


def files_of(module: str, imports: grimp.ImportGraph) -> set[str]:
    """The files of the method, and of stages, that a module runs, however far away."""
    used = imports.find_upstream_modules(module) | {module}
    parts = [name.split(".") for name in used]
    chosen = [part for part in parts if part[0] == "stages" or (part[1:2] and part[1] in METHOD)]
    paths = [Path(*part) for part in chosen]
    return {f"{path}.py" for path in paths if not (ROOT / path).is_dir()}


def parameters(name: str) -> list[str]:
    """The parameters of params.yaml that dvc.yaml names for a stage."""
    return [entry for entry in STAGES[name].get("params", []) if isinstance(entry, str)]


def program_keys(name: str) -> list[str]:
    """What the stage depends on in program.json."""
    entries = [entry for entry in STAGES[name]["params"] if not isinstance(entry, str)]
    return [key for entry in entries for key in entry["program.json"]]


def code_of(name: str) -> tuple[list[str], str]:
    """The packages, and the pattern of stages, that the stage's key in program.json stands for."""
    [key] = program_keys(name)
    packages, pattern = CODE_OF[key]
    return packages.split(), pattern


@pytest.mark.parametrize("name", sorted(STAGES.keys() - {"scan"}))  # which runs always
def test_a_stage_depends_on_the_modules_of_the_method_that_it_runs_and_no_package_more(
    name: str, imports: grimp.ImportGraph
) -> None:
    module = "stages." + STAGES[name]["cmd"].split("stages.")[1].split()[0]
    packages, pattern = code_of(name)
    files = files_of(module, imports)
    assert len(files) > 2
    unwatched = {
        file for file in files if not fnmatch(file, pattern) and file.split("/")[1] not in packages
    }
    assert not unwatched
    unused = {name for name in packages if not any(f"pipeline/{name}/" in file for file in files)}
    assert unused <= {"report"}  # not of the method: its templates are the page


def models_of(name: str, params: Params) -> list[str]:
    """The models that a stage works on, one at a time; "0" where it works on none."""
    return {
        None: ["0"],
        "${generations}": params.model_keys[1:],
        "${ensemble.seeds}": params.seed_keys,
        "${controls}": params.control_keys,
    }[FOREACH[name]]


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Params:
    """Such that every stage has a model to work on. None grows from its teacher, whose size a
    stage has from models/."""
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    values: Any = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["ensemble"]["seeds"] = {"2.1": {"generation": "2", "teacher": "1"}}
    values["controls"] = {
        "labels": {"steps": 10},
        "students": {"steps": 10, "like": "student"},
    }
    for generation in values["generations"].values():
        generation["student"].pop("grow", None)
    YAML().dump(values, path)
    return load_params(path)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_every_parameter_that_it_reads(name: str, params: Params) -> None:
    module = "stages." + STAGES[name]["cmd"].split("stages.")[1].split()[0]
    members = read_members(module)
    models = models_of(name, params)
    assert members
    assert models
    for model in models:
        generation, _, key = model.partition(".")
        named = [
            entry.replace("${item.generation}", generation).replace("${key}", key or generation)
            for entry in parameters(name)
        ]
        reads = read_parameters(members, params, model)
        if name == "pseudo_label":
            reads -= {"guard"}  # whether it runs, never what it writes
        if name == "scan" or "tasks" in code_of(name)[0]:
            reads -= {"task"}  # of which program.json has the code; older files lack it
        unwatched = {read for read in reads if not watched(read, named)}
        assert not unwatched, model


def watched(read: str, named: list[str]) -> bool:
    """Whether dvc.yaml names a parameter, or need not: `run` and `tracking` are in no output, and
    a generation's teacher is among its stages' dependencies by name."""
    section, _, last = read.partition(".")[0], "", read.rpartition(".")[2]
    if section in ("run", "tracking") or (section == "generations" and last == "teacher"):
        return True
    return any(read == name or read.startswith(f"{name}.") for name in named)


def test_only_evaluation_and_the_baseline_see_what_is_made_of_test_images() -> None:
    users = {name for name, stage in STAGES.items() if "features/test" in stage.get("deps", [])}
    assert {name.partition("_")[0] for name in users} <= {"evaluate", "baseline"}


@pytest.mark.parametrize("name", STAGES)
def test_no_stage_runs_again_for_how_fast_it_goes(name: str) -> None:
    assert not [key for key in parameters(name) if key.partition(".")[0] == "run"]


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_parameter_that_a_stage_names_is_in_the_file(path: Path) -> None:
    """DVC stops at one that is not, whatever its default."""
    values: Any = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    for name in STAGES:
        for key in parameters(name):
            if "$" in key:
                continue
            try:
                reduce(lambda section, part: section[part], key.split("."), values)
            except KeyError:
                pytest.fail(f"{path.name}: no {key}, which the stage {name} names")


def test_program_json_has_a_digest_of_each_stage_that_dvc_yaml_names() -> None:
    named = {key for name in STAGES if name != "scan" for key in program_keys(name)}
    assert named == program_digests().keys()
