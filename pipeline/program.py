"""The installed program: the digests of its code, by which DVC reruns, and the files beside it."""

from __future__ import annotations

import shutil
from collections.abc import Set
from importlib.metadata import files
from pathlib import Path
from typing import get_args

from pipeline.errors import DataError
from pipeline.files import file_digest, value_digest
from pipeline.params.sections import TaskName

CODE = Path(__file__).parents[1]  # holds the packages `pipeline` and `stages`
PACKAGES = ("pipeline", "stages", "cluster", "selftrain")
SHARED = "share/selftrain"  # where pip puts dvc.yaml, params.yaml and presets

# What the outputs of stages are made by, by their key in program.json: packages of the pipeline,
# and the stages themselves.
CODE_OF = {
    "prepare": ("data tasks", "stages/prepare.py"),
    "embed": ("data models tasks train", "stages/embed.py"),
    "search": ("data augment models tasks evaluate train self_training", "stages/search.py"),
    "train": ("data augment models tasks evaluate labels train self_training", "stages/train_*.py"),
    "pseudo_label": (
        "data augment models tasks evaluate labels self_training",
        "stages/pseudo_label.py",
    ),
    "select": ("data tasks evaluate labels self_training", "stages/select.py"),
    "evaluate": ("data augment models tasks evaluate labels", "stages/evaluate.py"),
    "ensemble": ("data augment models tasks evaluate", "stages/ensemble.py"),
    "baseline": ("data models tasks evaluate train", "stages/baseline.py"),
    "report": ("data models tasks evaluate labels train self_training report", "stages/report.py"),
}


def program_digests(task: str = "classification") -> dict[str, str]:
    """SHA-256 of the code that makes each stage's outputs, as scan writes it to program.json.

    Of the files of tasks that of `task` alone counts.
    """
    packages = {name for names, _ in CODE_OF.values() for name in names.split()}
    others = {f"{name}.py" for name in get_args(TaskName) if name != task}
    digests = {
        name: folder_digest(CODE / "pipeline" / name, others if name == "tasks" else frozenset())
        for name in sorted(packages)
    }
    presets = folder_digest(program_file("presets"))  # the report names the nearest
    return {
        key: value_digest(
            [digests[name] for name in names.split()]
            + [file_digest(path) for path in sorted(CODE.glob(pattern))]
            + ([presets] if key == "report" else [])
        )
        for key, (names, pattern) in CODE_OF.items()
    }


def folder_digest(folder: Path, without: Set[str] = frozenset()) -> str:
    """SHA-256 of the files below `folder` and their names, without those of the names `without` and
    what Python compiled."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    paths = [path for path in paths if path.name not in without]
    return value_digest({path.relative_to(folder).as_posix(): file_digest(path) for path in paths})


def program_file(name: str) -> Path:
    """Where `name`, a file or folder that comes beside the packages, lies: in the repository, or
    where pip has put it.

    Raises DataError where it was not installed.
    """
    if (CODE / "dvc.yaml").exists():
        return CODE / name
    for file in files("selftrain") or ():
        if file.as_posix().endswith(f"{SHARED}/dvc.yaml"):
            return Path(str(file.locate())).resolve().parent / name
    raise DataError(f"{name}: was not installed with selftrain; install it again")


def copy_program(folder: Path) -> None:
    """Put the program beside the files of a project in `folder`, where it is not among them."""
    for source in (*(CODE / name for name in PACKAGES), program_file("presets")):
        if not (folder / source.name).exists():
            shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("*.pyc"))
