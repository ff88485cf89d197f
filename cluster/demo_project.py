"""The project that the demonstration runs: a clone of this repository with a few parameters set."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cluster.package import git
from pipeline.errors import ClusterError, ParameterError
from pipeline.params import parse_params
from pipeline.runtime.layout import Layout

CHANGES: Mapping[str, Mapping[str, Any]] = {
    "data": {"images_per_shard": 16},  # of 4096 the digits would be one, and nothing to lose
    "train": {"workers": 2, "min_workers": 1},
    "run": {"actors": [1, 2], "checkpoint_minutes": 0.05},
}
UP_TO_DATE = "Data and pipelines are up to date."
Values = dict[str, Any]


@dataclass(frozen=True)
class Project:
    """A clone, the storage that it shares with the cluster, and its parameters."""

    folder: Path
    storage: Path
    values: Values

    @property
    def layout(self) -> Layout:
        """Where the stages' outputs lie."""
        return Layout(self.folder)

    def work(self) -> list[Path]:
        """The folders in which jobs are at work."""
        return sorted((self.storage / "work").glob("*"))


def demo_values(values: Values, storage: Path) -> Values:
    """The parameters with the storage, two workers and small shards; all else as it was."""
    changed: dict[str, Mapping[str, Any]] = {**CHANGES, "storage": {"url": storage.as_uri()}}
    return values | {
        section: {**(values.get(section) or {}), **news} for section, news in changed.items()
    }


def with_overrides(values: Values, overrides: Sequence[str]) -> Values:
    """The parameters with each `SECTION.NAME=VALUE` set; the value is YAML.

    Raises ParameterError for one of another form.
    """
    changed = copy.deepcopy(values)
    for override in overrides:
        name, equals, text = override.partition("=")
        *sections, last = name.split(".")
        try:
            inner = changed
            for section in sections:
                inner = inner[section]
            if not (equals and last):
                raise KeyError(name)
            inner[last] = YAML(typ="safe").load(text)
        except (KeyError, TypeError, YAMLError):
            raise ParameterError(
                f"--set {override}: must be SECTION.NAME=VALUE, as train.steps=300"
            ) from None
    return changed


def make_project(source: Path, folder: Path, overrides: Sequence[str] = ()) -> Project:
    """Clone the commit of `source` to `folder`/repository, with storage beside it.

    overrides: as of with_overrides. Raises ParameterError where one is wrong or `source` is not
    in git.
    """
    clone, storage = folder / "repository", folder / "storage"
    folder.mkdir(parents=True)
    git(source, "clone", "--quiet", "--no-hardlinks", ".", str(clone))
    storage.mkdir()
    yaml, path = YAML(), clone / "params.yaml"
    values = with_overrides(demo_values(dict(yaml.load(path)), storage), overrides)
    parse_params(values, "params.yaml of the demonstration")
    yaml.dump(values, path)
    identity = ("-c", "user.name=demo", "-c", "user.email=demo@localhost")
    git(clone, *identity, "commit", "--quiet", "--all", "--message", "Run on the local cluster")
    return Project(clone, storage, values)


def environment(connect: Mapping[str, str]) -> dict[str, str]:
    """What a command in the clone gets: this Python, the cluster's token, a tracking store there.

    connect: what a program needs in order to reach the cluster.
    """
    own = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_TRACKING"))}
    token = {name: value for name, value in connect.items() if name != "RAY_ADDRESS"}
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    quiet = {"DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": ""}
    return own | token | quiet | {"PATH": os.pathsep.join(filter(None, paths))}


def check_status(project: Project, variables: Mapping[str, str]) -> None:
    """Raise ClusterError unless `dvc status` finds nothing to do in the clone."""
    answer = subprocess.run(
        [sys.executable, "-m", "dvc", "status"],
        cwd=project.folder,
        env=dict(variables),
        capture_output=True,
        text=True,
        check=False,
    )
    if UP_TO_DATE not in answer.stdout:
        said = " ".join((answer.stdout + answer.stderr).split())
        raise ClusterError(f"dvc status is not clean after the job: {said[:300]}")
