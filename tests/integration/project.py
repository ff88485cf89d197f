"""A copy of this repository in another folder, small parameters in it, and DVC to run it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.small_run import copy_repository

ROOT = Path(__file__).parents[2]
YAML_FILE = YAML()
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
    "model": {"name": "resnet_small", "width": 16, "dropout_rate": 0.1},
    "augment": {"shift": 0.0, "num_ops": 1, "magnitude": 5.0, "operations": ["rotate", "scale"]},
    "train": {
        "steps": 60,
        "batch_size": 32,
        "unlabeled_ratio": 1,
        "learning_rate": 0.01,
        "ema_decay": 0.9,
        "threads": 1,
    },
    "transfer": {},
    "predict": {"views": "centre"},
    "select": {"confidence_threshold": 0.0, "fraction_per_class": 0.7},
    "guard": {},
    "evaluate": {"views": "jitter", "jitter_views": 2, "threads": 1},
    "ensemble": {"seeds": {}},
    "controls": {},
    "storage": {},
    "teacher": {},
    "generations": {
        "1": {"teacher": "0", "select": {}, "student": {}},
        "2": {
            "teacher": "1",
            "select": {"confidence_threshold": 0.1},
            "student": {"model": {"width": 20}},
        },
    },
}


@dataclass(frozen=True)
class Project:
    """The folder of a copy."""

    folder: Path

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder; its output is text."""
        environment = os.environ | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "DVC_NO_ANALYTICS": "1",
            "PYTHONPATH": str(self.folder),  # so that `selftrain` is the copy's
            "OMP_NUM_THREADS": "1",
        }
        environment.pop("MLFLOW_TRACKING_URI", None)
        answer = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        if check and answer.returncode != 0:
            raise AssertionError(f"{' '.join(command)}\n{answer.stdout}\n{answer.stderr}")
        return answer

    def repro(self, *arguments: str) -> list[str]:
        """`dvc repro`; the stages that it ran, in order."""
        return stages_run(self.run("dvc", "repro", *arguments).stdout)

    def parameters(self) -> Any:
        """params.yaml as a dictionary."""
        return YAML_FILE.load((self.folder / "params.yaml").read_text())

    def set_parameters(self, values: Any) -> None:
        """Write params.yaml."""
        with (self.folder / "params.yaml").open("w") as file:
            YAML_FILE.dump(values, file)

    def json(self, path: str) -> Any:
        """The JSON value in a file of the folder."""
        return json.loads((self.folder / path).read_text())


def stages_run(output: str) -> list[str]:
    """The stages that an output of `dvc repro` says were run, but for scan, which always is."""
    ran: list[str] = re.findall(r"^Running stage '(.+)':", output, flags=re.MULTILINE)
    return [stage for stage in ran if stage != "scan"]


def copy_project(folder: Path, parameters: Any) -> Project:
    """A copy of this repository in `folder`, committed there, with these parameters."""
    copy_repository(folder)
    project = Project(folder)
    project.set_parameters(parameters)
    project.run("git", "init", "-q", "-b", "main")
    project.run("git", "config", "user.email", "user@example.org")
    project.run("git", "config", "user.name", "user")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "-m", "start")
    return project
