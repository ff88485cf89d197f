"""A small run, stage by stage: commands and outputs as dvc.yaml has them, small parameters."""

from __future__ import annotations

import compileall
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.chaos.forks import Forks, fork_servers
from benchmarks.chaos.traced import Outcome, run_traced
from benchmarks.runs import ROOT
from pipeline.tracking.tracker import hold_spools

SMALL: dict[str, Any] = {
    "seed": 3,
    "data": {
        "source": "digits",
        "image_size": 8,
        "channels": 1,
        "labels": 100,
        "validation": "held_out",
        "folds": 5,
        "validation_fraction": 0.3,
        "images_per_shard": 300,
    },
    "embed": {},
    "model": {"name": "resnet_small", "width": 8, "dropout_rate": 0.1},
    "augment": {
        "shift": 0.0,
        "num_ops": 1,
        "magnitude": 5.0,
        "operations": ["rotate", "scale"],
        "search": {"num_ops": [1], "magnitude": [5.0, 10.0], "steps": 3, "seeds": 1},
    },
    "train": {
        "steps": 6,
        "batch_size": 16,
        "unlabeled_ratio": 1,
        "learning_rate": 0.01,
        "ema_decay": 0.9,
        "threads": 1,
        "log_every": 2,
    },
    "transfer": {},
    "predict": {"views": "centre"},
    "run": {"checkpoint_minutes": 1e-6},
    "select": {"confidence_threshold": 0.0, "fraction_per_class": 0.7},
    "guard": {},
    "evaluate": {"views": "centre", "threads": 1, "bootstrap_samples": 100},
    "ensemble": {"seeds": {}},
    "controls": {},
    "storage": {},
    "teacher": {},
    "generations": {"1": {"teacher": "0", "select": {}, "student": {}}},
}
RAY_GAVE_UP = "timed out during startup"  # after 30 seconds, on a machine with too much to do
TRIES = 3
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
LOADED = (  # what takes long to import
    *("stages.train_teacher", "stages.pseudo_label", "stages.evaluate", "stages.baseline"),
    *("stages.search", "stages.report", "ray.train.torch", "ray.data"),
    *("sklearn.semi_supervised", "sklearn.datasets", "timm.layers", "filelock"),
)


@dataclass(frozen=True)
class Step:
    """One stage of the run as DVC runs it: its title, command, and what DVC takes as outputs."""

    title: str
    command: list[str]
    outputs: list[str]


def steps(python: str) -> list[Step]:
    """The stages in the order in which `dvc repro` runs them; python: the interpreter."""
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return [step for name, stage in stages.items() for step in _steps_of(name, stage, python)]


def _steps_of(name: str, stage: dict[str, Any], python: str) -> Iterator[Step]:
    if "foreach" not in stage:
        yield _step(name, stage, "", python)
    elif stage["foreach"] == "${generations}":
        for key in SMALL["generations"]:
            yield _step(f"{name}@{key}", stage["do"], key, python)


def _step(title: str, stage: dict[str, Any], key: str, python: str) -> Step:
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    names = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
    command = stage["cmd"].replace("${key}", key).split()
    outputs = [name.replace("${key}", key) for name in names]
    return Step(title, [python, *command[1:]], outputs)


def copy_code(folder: Path) -> None:
    """The program in `folder`: what is edited while it is killed would make other runs of it."""
    for name in ("pipeline", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(folder, quiet=1)


def make_project(folder: Path) -> None:
    """Parameters and nothing else in `folder`; what is logged there stays there."""
    folder.mkdir(parents=True)
    write_parameters(folder)
    shutil.copyfile(ROOT / "corrections.csv", folder / "corrections.csv")
    hold_spools(folder)


def write_parameters(folder: Path) -> None:
    """The small parameters as params.yaml of `folder`."""
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(SMALL, file)


@dataclass(frozen=True)
class Bench:
    """What the stages run with: the copy of the program, the library that counts.

    forks: who runs the stages, if not a process of each one's own.
    """

    code: Path
    library: Path
    forks: Forks | None = None


@contextmanager
def forking(bench: Bench, count: int) -> Iterator[Bench]:
    """The bench with `count` fork servers, until the block ends."""
    with fork_servers(
        bench.code, bench.library, LOADED, count=count, environment=ENVIRONMENT
    ) as forks:
        yield replace(bench, forks=forks)


def run_step(step: Step, folder: Path, bench: Bench, **when: int) -> Outcome:
    """Run a stage in `folder` as DVC does: without the outputs of an earlier run.

    when: kill_at or full_at, as run_traced has them.
    """
    for name in step.outputs:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    environment = {**ENVIRONMENT, "PYTHONPATH": str(bench.code)}
    for _ in range(TRIES):
        came = run_traced(
            bench.library,
            step.command,
            folder,
            environment=environment,
            forks=bench.forks,
            **when,
        )
        if came.code == 0 or RAY_GAVE_UP not in came.said:
            break
    return came
