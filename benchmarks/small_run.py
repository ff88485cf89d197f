"""A run of seconds in a folder of its own: its parameters, its stages, and what it leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.runs import ROOT
from pipeline.files import file_digest
from pipeline.tracking.tracker import hold_spools

SMALL: dict[str, Any] = YAML(typ="safe").load("""
seed: 3
data: {source: digits, image_size: 8, channels: 1, labels: 100, validation: held_out, folds: 5,
  validation_fraction: 0.3, images_per_shard: 300}
embed: {}
model: {name: resnet_small, width: 8, dropout_rate: 0.1}
augment: {shift: 0.0, num_ops: 1, magnitude: 5.0, operations: [rotate, scale],
  search: {num_ops: [1], magnitude: [5.0, 10.0], steps: 3, seeds: 1}}
train: {steps: 6, batch_size: 16, unlabeled_ratio: 1, learning_rate: 0.01, ema_decay: 0.9,
  threads: 1, log_every: 2}
transfer: {}
predict: {views: centre}
run: {checkpoint_minutes: 0.000001}
select: {confidence_threshold: 0.0, fraction_per_class: 0.7}
guard: {}
evaluate: {views: centre, threads: 1, bootstrap_samples: 100}
ensemble: {seeds: {}}
controls: {}
storage: {}
teacher: {}
generations: {"1": {teacher: "0", select: {}, student: {}}}
""")
OUTPUTS = ("curves/", "metrics/", "dvc.lock")  # of a run here, which git does not ignore
NOT_COMPARED = (".selftrain/", ".dvc/", ".git/", "report/times.html")  # work in progress, times
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "DVC_NO_ANALYTICS": "1"}
ELSEWHERE = ("DVC_ROOT", "RAY_ADDRESS", "MLFLOW_TRACKING_URI")  # would lead a stage there


@dataclass(frozen=True)
class Step:
    """A stage as DVC runs it: its title, module and arguments, and what DVC takes as outputs."""

    title: str
    command: list[str]
    outputs: list[str]


def steps() -> list[Step]:
    """The stages in the order in which `dvc repro` runs them."""
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    found = []
    for name, stage in stages.items():
        if "foreach" not in stage:
            found.append(_step(name, stage, ""))
        elif stage["foreach"] == "${generations}":
            found += [_step(f"{name}@{key}", stage["do"], key) for key in SMALL["generations"]]
    return found


def _step(title: str, stage: dict[str, Any], key: str) -> Step:
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    names = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
    outputs = [name.replace("${key}", key) for name in names]
    return Step(title, stage["cmd"].replace("${key}", key).split()[2:], outputs)


def make_project(folder: Path) -> None:
    """The small parameters in `folder`; what is logged there stays there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(SMALL, file)
    shutil.copyfile(ROOT / "corrections.csv", folder / "corrections.csv")
    hold_spools(folder)


def copy_repository(folder: Path) -> None:
    """This repository in `folder` as a fresh clone has it, changes that are not committed included,
    without its DVC remotes."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(OUTPUTS):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    parser, config = ConfigParser(), folder / ".dvc" / "config"
    parser.read(config)
    for section in parser.sections():
        if "remote " in section:
            parser.remove_section(section)
    parser.remove_option("core", "remote")
    with config.open("w") as file:
        parser.write(file)


def start_repro(folder: Path, *stages: str) -> subprocess.Popen[bytes]:
    """`dvc repro` of all or these stages in `folder`, in a process group of its own."""
    binaries = Path(sys.executable).parent
    path = os.pathsep.join([str(binaries), os.environ["PATH"]])
    command = [str(binaries / "dvc"), "repro", *stages]
    with (folder / ".git" / "said").open("ab") as said:
        return start(command, folder, said, PATH=path, PYTHONPATH="")


def start(command: list[str], folder: Path, said: Any, **more: str) -> subprocess.Popen[bytes]:
    """Start a command in `folder`, in a process group of its own; said: the file it writes to."""
    around = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    streams: dict[str, Any] = {"stdout": said, "stderr": said, "stdin": subprocess.DEVNULL}
    environment = around | ENVIRONMENT | more
    return subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **streams)


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that the stages leave in `folder`, by its name there."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: file_digest(files[name]) for name in files if not name.startswith(NOT_COMPARED)}
