"""The place through which data travels between here and a cluster: a DVC remote.

That is the repository's default remote, or else the folder `dvc` under `storage.url`. DVC keeps
the stages' outputs in it. What a job needs and leaves besides lies in `selftrain-jobs/<job>/`:

    params.yaml      its parameters; a cluster that does not find them here reaches another place
    results.tar.gz   files/…  dvc.lock and the outputs that DVC doesn't keep, under their paths
                     runs/…   the tracked runs that no server has yet
"""

from __future__ import annotations

import logging
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline.addresses import check_address
from pipeline.errors import ClusterError, ParameterError, SelftrainError, counted
from pipeline.files import written_whole
from pipeline.params import PARAMS_FILE, load_params
from pipeline.tracking.spool import all_spools
from pipeline.tracking.tracker import import_spools
from pipeline.workflow.layout import Layout

NAME = "selftrain"
JOBS = "selftrain-jobs"
RESULTS = "results.tar.gz"
REASON_LETTERS = 600


@dataclass(frozen=True)
class Remote:
    """A DVC remote for the repository at `root`, whatever its own configuration has as default.

    `settings` are the remote's as DVC's configuration has them (`url`, `endpointurl` …).
    """

    root: Path
    settings: Mapping[str, Any] = field(repr=False)

    @property
    def url(self) -> str:
        """Where the remote is."""
        return str(self.settings["url"])

    def push(self) -> None:
        """Push the outputs that dvc.lock names and that are here."""
        with opened(self.root, self.settings) as repo:
            repo.push(run_cache=True)

    def pull(self) -> None:
        """Bring the outputs that dvc.lock names into the working tree, those that are there."""
        with opened(self.root, self.settings) as repo:
            repo.pull(run_cache=True, allow_missing=True, force=True)

    def small_outputs(self) -> list[str]:
        """dvc.lock and the outputs that DVC doesn't keep (metrics, curves), from the root."""
        with opened(self.root, self.settings) as repo:
            root = Path(repo.root_dir)
            paths = [Path(out.fs_path) for out in repo.index.outs if not out.use_cache]
            inside = [path.relative_to(root).as_posix() for path in paths if root in path.parents]
        return ["dvc.lock", *sorted(inside)]

    def changed_stages(self) -> list[str]:
        """The stages that `dvc repro` would look at, but for those that it always runs."""
        with opened(self.root, self.settings) as repo:
            found = repo.status().items()
        return sorted(name.rsplit(":", 1)[-1] for name, why in found if why != ["always changed"])

    def freeze(self, stage: str) -> None:
        """Have `dvc repro` take a stage's outputs as they are."""
        with opened(self.root, self.settings) as repo:
            repo.freeze(f"{self.root / 'dvc.yaml'}:{stage}")  # else that of the current folder

    def put(self, source: Path, job: str, name: str) -> None:
        """Write a file for a job; it is there whole or not at all."""
        with self._files(job) as (files, folder):
            files.makedirs(folder, exist_ok=True)
            files.put_file(str(source), files.join(folder, name))

    def get(self, job: str, name: str, target: Path) -> bool:
        """Read a file of a job into `target`; whether it was there."""
        with self._files(job) as (files, folder):
            if there := files.exists(files.join(folder, name)):
                files.get_file(files.join(folder, name), str(target))
        return bool(there)

    @contextmanager
    def _files(self, job: str) -> Iterator[tuple[Any, str]]:
        """The remote's file system and a job's folder in it."""
        with opened(self.root, self.settings) as repo:
            remote = repo.cloud.get_remote()
            yield remote.fs, remote.fs.join(remote.path, JOBS, job)

    def put_results(self, job: str) -> None:
        """Push DVC's outputs, and put beside them what a job leaves besides."""
        self.push()
        with tempfile.TemporaryDirectory() as temporary:
            packed = Path(temporary) / RESULTS
            with tarfile.open(packed, "w:gz") as archive:
                for name in self.small_outputs():
                    if (self.root / name).exists():
                        archive.add(self.root / name, f"files/{name}")
                for spool in all_spools(self.root):
                    archive.add(spool, f"runs/{spool.name}")
            self.put(packed, job, RESULTS)

    def take_results(self, job: str, tracking_uri: str | None) -> str | None:
        """Take what a job has left into the repository: what came, None where it left nothing."""
        with tempfile.TemporaryDirectory(prefix="selftrain-") as temporary:
            folder = Path(temporary)
            if not self.get(job, RESULTS, folder / RESULTS):
                return None
            with tarfile.open(folder / RESULTS) as archive:
                archive.extractall(folder, filter="data")
            files = [path for path in (folder / "files").rglob("*") if path.is_file()]
            for path in files:
                with written_whole(self.root / path.relative_to(folder / "files")) as partial:
                    shutil.copyfile(path, partial)
            models = load_params(self.root / PARAMS_FILE).all_models
            Layout(self.root).remove_leftovers(models)  # as the stages do there
            self.pull()
            runs = import_spools(self.root, folder / "runs", tracking_uri)
        with self._files(job) as (remote_files, job_folder):
            remote_files.remove(job_folder, recursive=True)
        on_their_way = f", {runs} runs on their way to MLflow" if runs else ""
        return f"brought back DVC's outputs and {counted(len(files), 'file')}{on_their_way}"


@contextmanager
def opened(root: Path, settings: Mapping[str, Any] | None = None) -> Iterator[Any]:
    """The DVC repository at `root`, with a remote of these settings as its default.

    What DVC raises in the block becomes one line.
    """
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    from dvc.repo import Repo

    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).setLevel(logging.ERROR)
    remote = {"core": {"remote": NAME}, "remote": {NAME: dict(settings or {})}}
    try:
        with Repo(str(root), config=remote if settings else {}) as repo:
            yield repo
    except SelftrainError:
        raise
    except Exception as error:
        from dvc.config import ConfigError

        where, remedy = settings["url"] if settings else root, ""
        if isinstance(error, ConfigError):
            remedy = "; mend .dvc/config, or take git's: git checkout .dvc/config"
        raise ClusterError(f"{where}: {_reason(error)}{remedy}") from error


def _reason(error: BaseException | None) -> str:
    """What DVC says, and what that came from, where it does not say so."""
    reasons = list[str]()
    while error is not None:
        text = " ".join(str(error).split()) or type(error).__name__
        if not any(text in each for each in reasons):
            reasons.append(text)
        error = error.__cause__
    return ": ".join(reasons)[:REASON_LETTERS]


def find_remote(root: Path, storage_url: str | None) -> Remote:
    """The repository's default DVC remote, else the one under `storage_url`.

    Raises ParameterError if there is neither, or it holds credentials.
    """
    with opened(root) as repo:
        name = repo.config["core"].get("remote")
        if name in repo.config["remote"]:
            settings = dict(repo.config["remote"][name])
            check_address(f"the DVC remote {name}", str(settings["url"]))
            return Remote(root, settings)
    if storage_url is None:
        raise ParameterError(
            "nothing to bring results back through: set storage.url in params.yaml, "
            "or add a remote that the cluster reaches too (dvc remote add --default NAME URL)"
        )
    return Remote(root, {"url": f"{as_path(storage_url).rstrip('/')}/dvc"})


def as_path(url: str) -> str:
    """A file:// URL as its path; any other as it is."""
    parts = urlsplit(url)
    return unquote(parts.path) if parts.scheme == "file" else url
