"""DVC's queued experiments: which there are, and a finished one as DVC keeps it.

`dvc exp run --queue` commits each experiment's parameters beside the branch. A job runs one of
these commits; what it brings back becomes a commit under refs/exps, which is where `dvc exp show`
and `dvc exp apply` look.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.package import QUEUE_ARGUMENTS, git
from cluster.remote import opened
from pipeline.errors import ClusterError, ParameterError


@dataclass(frozen=True)
class Experiment:
    """A queued experiment: its name, the commit it starts from, the commit of its parameters."""

    name: str
    baseline: str
    revision: str


def queued_experiments(root: Path) -> list[Experiment]:
    """The queue, oldest first.

    Raises ParameterError where it is empty or an experiment was queued for single stages, which
    a job is told by its DVC arguments.
    """
    with opened(root) as repo:
        entries = list(repo.experiments.celery_queue.iter_queued())
    if not entries:
        raise ParameterError("the queue is empty; dvc exp run --queue -S 'SECTION.NAME=VALUE'")
    found = [
        Experiment(str(entry.name), str(entry.baseline_rev), str(entry.stash_rev))
        for entry in entries
    ]
    for experiment in found:
        if targets := queued_targets(root, experiment):
            raise ParameterError(
                f"experiment {experiment.name} is queued for {', '.join(targets)} alone; queue it "
                f"without, and name stages for all of the queue: -- {' '.join(targets)}"
            )
    return found


def queued_targets(root: Path, experiment: Experiment) -> list[str]:
    """The stages that `dvc exp run --queue STAGES` named; none: all."""
    from dvc.repo.experiments.executor.base import BaseExecutor

    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "arguments"
        packed.write_bytes(git(root, "show", f"{experiment.revision}:./{QUEUE_ARGUMENTS}"))
        positional, named = BaseExecutor.unpack_repro_args(str(packed))
    targets = positional[0] if positional else named.get("targets")
    return [targets] if isinstance(targets, str) else list(targets or [])


def forget_queued(root: Path, experiment: Experiment) -> None:
    """Take a finished experiment from the queue, if it is still there."""
    with opened(root) as repo:
        queue = repo.experiments.celery_queue
        if any(entry.stash_rev == experiment.revision for entry in queue.iter_queued()):
            queue.remove([experiment.name])


def save_experiment(root: Path, experiment: Experiment, files: Path, names: Sequence[str]) -> str:
    """Keep a finished experiment under its name; the commit.

    It holds the experiment's own files and those of `names` in the folder `files`. An experiment
    of that name and baseline with other content is an error, with the same content it is kept.
    """
    commit = _commit(root, experiment, files, names)
    reference = experiment_reference(experiment)
    old = _resolved(root, reference)
    if old is not None and _tree(root, old) != _tree(root, commit):
        raise ClusterError(
            f"experiment {experiment.name}: there is another one of this name; "
            f"dvc exp remove {experiment.name}, or dvc exp rename it, and resume"
        )
    if old is None:
        git(root, "update-ref", reference, commit)
    return old or commit


def experiment_reference(experiment: Experiment) -> str:
    """The git reference under which DVC looks for the experiment."""
    from dvc.repo.experiments.refs import ExpRefInfo

    return str(ExpRefInfo(experiment.baseline, experiment.name))


def _commit(root: Path, experiment: Experiment, files: Path, names: Sequence[str]) -> str:
    """A commit on the baseline of the experiment's files and the results; not yet referenced."""
    prefix = git(root, "rev-parse", "--show-prefix").decode().strip()
    with _own_index() as environment:
        _git(root, environment, "read-tree", f"{experiment.revision}^{{tree}}")
        _git(root, environment, "update-index", "--force-remove", QUEUE_ARGUMENTS)
        for name in names:
            path = str((files / name).resolve())
            blob = _git(root, environment, "hash-object", "-w", "--no-filters", path)
            entry = f"100644,{blob},{prefix}{name}"
            _git(root, environment, "update-index", "--add", "--cacheinfo", entry)
        tree = _git(root, environment, "write-tree")
        message = f"dvc: commit experiment {experiment.name}"
        return _git(
            root, environment, "commit-tree", tree, "-p", experiment.baseline, "-m", message
        )


@contextmanager
def _own_index() -> Iterator[dict[str, str]]:
    """An environment in which git's index is a temporary one."""
    with tempfile.TemporaryDirectory() as folder:
        yield os.environ | {"GIT_INDEX_FILE": str(Path(folder) / "index")}


def _git(root: Path, environment: Mapping[str, str], *arguments: str) -> str:
    answer = subprocess.run(
        ["git", *arguments], cwd=root, env=environment, capture_output=True, check=False
    )
    if answer.returncode != 0:
        reason = answer.stderr.decode(errors="replace").strip().splitlines() or ["failed"]
        raise ClusterError(f"git {arguments[0]}: {reason[-1]}")
    return answer.stdout.decode().strip()


def _resolved(root: Path, reference: str) -> str | None:
    found = git(root, "for-each-ref", "--format=%(objectname)", reference).decode().strip()
    return found or None


def _tree(root: Path, commit: str) -> str:
    return git(root, "rev-parse", f"{commit}^{{tree}}").decode().strip()
