"""The place through which data travels between here and a cluster: a DVC remote.

That is the repository's default remote, or else the folder `dvc` under `storage.url`. DVC keeps
the stages' outputs in it; a run's small files lie beside them, in `selftrain-jobs/<job>/`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline.errors import ClusterError, ParameterError
from pipeline.files import written_whole

NAME = "selftrain"
JOBS = "selftrain-jobs"
SECRETS = ("key", "secret", "token", "password", "credential", "connection_string", "user")


@dataclass(frozen=True)
class Remote:
    """A DVC remote, whatever the repository's own configuration names as its default.

    `settings` are the remote's as DVC's configuration has them (`url`, `endpointurl` …);
    `without_git` reads a copy of the repository that has no .git.
    """

    root: Path
    settings: Mapping[str, Any] = field(repr=False)
    without_git: bool = False

    @property
    def url(self) -> str:
        """Where the remote is."""
        return str(self.settings["url"])

    @property
    def is_local(self) -> bool:
        """Whether it is a folder, on this machine or on a shared file system."""
        return "://" not in self.url

    def push(self, revisions: Sequence[str] = ()) -> int:
        """Push the outputs that dvc.lock names and that are here; returns how many files."""
        with self._repo() as repo:
            return int(repo.push(run_cache=True, revs=list(revisions) or None))

    def pull(self) -> None:
        """Bring the outputs that dvc.lock names into the working tree, those that are there."""
        with self._repo() as repo:
            repo.pull(run_cache=True, allow_missing=True, force=True)

    def fetch(self, revision: str) -> None:
        """Bring the outputs of a commit into the cache."""
        with self._repo() as repo:
            repo.fetch(revs=[revision], workspace=False)

    def small_outputs(self) -> list[str]:
        """dvc.lock and the outputs that DVC doesn't keep (metrics, curves), from the root."""
        with self._repo() as repo:
            return ["dvc.lock", *sorted(_uncached(repo))]

    def changed_stages(self) -> list[str]:
        """The stages that `dvc repro` would look at, but for those that it always runs."""
        with self._repo() as repo:
            found = repo.status().items()
        return sorted(name.rsplit(":", 1)[-1] for name, why in found if why != ["always changed"])

    def freeze(self, stage: str) -> None:
        """Have `dvc repro` take a stage's outputs as they are."""
        with self._repo() as repo:
            repo.freeze(stage)

    def count_stages(self) -> int:
        """How many stages dvc.yaml has with these parameters."""
        with self._repo() as repo:
            return len(repo.index.stages)

    def put(self, source: Path, job: str, name: str) -> None:
        """Write a file for a job; it is there whole or not at all."""
        with self._repo() as repo:
            remote = repo.cloud.get_remote()
            folder = remote.fs.join(remote.path, JOBS, job)
            remote.fs.makedirs(folder, exist_ok=True)
            target = remote.fs.join(folder, name)
            if not self.is_local:  # an object store shows an object once it is whole
                remote.fs.put_file(str(source), target)
                return
            with written_whole(Path(target)) as partial:
                partial.write_bytes(source.read_bytes())

    def get(self, job: str, name: str, target: Path) -> bool:
        """Read a file of a job into `target`; whether it was there."""
        with self._repo() as repo:
            remote = repo.cloud.get_remote()
            path = remote.fs.join(remote.path, JOBS, job, name)
            if not remote.fs.exists(path):
                return False
            target.parent.mkdir(parents=True, exist_ok=True)
            remote.fs.get_file(path, str(target))
            return True

    def forget(self, job: str) -> None:
        """Remove the files of a job, not DVC's data."""
        with self._repo() as repo:
            remote = repo.cloud.get_remote()
            folder = remote.fs.join(remote.path, JOBS, job)
            if remote.fs.exists(folder):
                remote.fs.remove(folder, recursive=True)

    @contextmanager
    def _repo(self) -> Iterator[Any]:
        """The DVC repository with this remote as its default; its errors become one line."""
        with opened(self.root, dvc_config(self.settings, self.without_git)) as repo:
            try:
                yield repo
            except Exception as error:
                raise ClusterError(f"{self.url}: {_one_line(error)}") from error


@contextmanager
def opened(root: Path, config: Mapping[str, Any] | None = None) -> Iterator[Any]:
    """The DVC repository at `root` with `config` over its own."""
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        repo = Repo(str(root), config=dict(config or {}))
    except DvcException as error:
        raise ClusterError(f"{root}: {_one_line(error)}") from error
    with repo:
        yield repo


def dvc_config(settings: Mapping[str, Any], without_git: bool = False) -> dict[str, Any]:
    """DVC's configuration with a remote of these settings as the default."""
    core: dict[str, Any] = {"remote": NAME}
    if without_git:
        core["no_scm"] = True
    return {"core": core, "remote": {NAME: dict(settings)}}


def find_remote(root: Path, storage_url: str | None) -> Remote:
    """The repository's default DVC remote, else the one under `storage_url`.

    Raises ParameterError if there is neither.
    """
    with opened(root) as repo:
        name = repo.config["core"].get("remote")
        if name in repo.config["remote"]:
            return Remote(root, dict(repo.config["remote"][name]))
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


def public_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a remote that may travel: a cluster has its own credentials."""
    return {
        name: value
        for name, value in settings.items()
        if not any(word in name.lower() for word in SECRETS)
    }


def _uncached(repo: Any) -> list[str]:
    root = Path(repo.root_dir)
    paths = (Path(out.fs_path) for out in repo.index.outs if not out.use_cache)
    return [path.relative_to(root).as_posix() for path in paths if path.is_relative_to(root)]


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]
