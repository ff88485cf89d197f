"""Take a finished job's results into the repository: outputs, metrics, dvc.lock, tracked runs."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from cluster.experiments import Experiment, forget_queued, save_experiment
from cluster.package import files_digest, tracked_files
from cluster.remote import Remote
from cluster.results import ARCHIVE, put_in_place, unpack
from pipeline.params import PARAMS_FILE, load_params
from pipeline.runtime.layout import Layout
from pipeline.tracking.tracker import import_spools


@dataclass(frozen=True)
class Brought:
    """What came: how many files beside DVC's outputs, how many tracked runs, what differs still."""

    files: int
    runs: int
    changed: tuple[str, ...] = ()


def bring_back(
    remote: Remote,
    job: str,
    *,
    experiment: Experiment | None,
    succeeded: bool,
    tracking_uri: str | None,
) -> Brought | None:
    """Take the results of `job` into the repository of `remote`; None where it has left none.

    A run's results go into the working tree; an experiment's become an experiment of DVC's and
    leave the tree alone. Of one that failed only the tracked runs are taken, and it stays queued.
    """
    root = remote.root
    with tempfile.TemporaryDirectory(prefix="selftrain-") as temporary:
        folder = Path(temporary)
        if not remote.get(job, ARCHIVE, folder / ARCHIVE):
            return None
        names = unpack(folder / ARCHIVE, folder)
        changed: list[str] = []
        if experiment is None:
            put_in_place(folder, names, root)
            models = load_params(root / PARAMS_FILE).all_models
            Layout(root).remove_leftovers(models)  # as the stages do there
            remote.pull()
            changed = remote.changed_stages()
        elif succeeded:
            remote.fetch(save_experiment(root, experiment, folder / "files", names))
            forget_queued(root, experiment)
        runs = import_spools(root, folder / "runs", tracking_uri)
    remote.forget(job)
    return Brought(len(names), runs, tuple(changed))


def is_other_tree(root: Path, sent_digest: str, outputs: list[str]) -> bool:
    """Whether the tracked files, `outputs` aside, are no longer those that were sent."""
    files = {n: file for n, file in tracked_files(root).items() if n not in outputs}
    return files_digest(files) != sent_digest
