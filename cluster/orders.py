"""What is to be sent: a commit, the tracked files as they are, or a queued experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cluster.experiments import Experiment
from cluster.package import (
    Files,
    check_committed,
    committed_files,
    head_commit,
    read_files,
    tracked_files,
)
from cluster.send import Order
from pipeline.errors import ParameterError
from pipeline.params import Params, parse_params

LOCK = "dvc.lock"
PARAMETERS = "params.yaml"


def committed_order(root: Path, outputs: Sequence[str]) -> Order:
    """The commit that is checked out, with the results of earlier runs that lie here.

    Raises ParameterError if anything but `outputs`, a run's own results, is not committed.
    """
    commit = head_commit(root)
    check_committed(root, outputs)
    return _order(committed_files(root), root, outputs, commit)


def dirty_order(root: Path, outputs: Sequence[str]) -> Order:
    """The tracked files as they are on the disk."""
    return _order(tracked_files(root), root, outputs, head_commit(root))


def experiment_order(root: Path, experiment: Experiment, outputs: Sequence[str]) -> Order:
    """A queued experiment; the results that lie here go along where its commit has none."""
    files = committed_files(root, experiment.revision)
    results = Files() if LOCK in files else read_files(root, outputs)
    return Order(files, results, experiment.baseline, experiment)


def params_of(order: Order) -> Params:
    """The parameters that are sent; raises ParameterError where they are wrong."""
    where = f"{order.title}: {PARAMETERS}"
    if PARAMETERS not in order.files:
        raise ParameterError(f"{where}: not among the tracked files")
    try:
        values = YAML(typ="safe").load(order.files[PARAMETERS].content)
    except YAMLError as error:
        raise ParameterError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    return parse_params(values, where)


def _order(files: Files, root: Path, outputs: Sequence[str], commit: str) -> Order:
    own = {name: file for name, file in files.items() if name not in outputs}
    return Order(own, read_files(root, outputs), commit)
