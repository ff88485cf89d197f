"""Send a run to a cluster: what it needs goes into the remote, the repository into a Ray job."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.experiments import Experiment
from cluster.job import HELLO, REQUEST, Request
from cluster.package import File, Files, files_digest, write_zip
from cluster.remote import Remote, public_settings
from pipeline.errors import ClusterError, ParameterError
from pipeline.files import value_digest
from pipeline.params import Params
from pipeline.progress import say

ENTRYPOINT = "python -m cluster.job"
MARK = "selftrain."
MIB = 1 << 20


@dataclass(frozen=True)
class Order:
    """One run to be sent: its files, the commit they are of, and the experiment it is, if one.

    `results` are dvc.lock and what goes with it, from earlier runs: DVC skips what they cover.
    """

    files: Files = field(repr=False)
    results: Files = field(repr=False)
    commit: str
    experiment: Experiment | None = None

    @property
    def title(self) -> str:
        """What the user calls it."""
        return self.experiment.name if self.experiment else f"commit {self.commit[:8]}"


@dataclass(frozen=True)
class Terms:
    """What holds for every run of a submission.

    `arguments`: DVC's; `tracking`: a server that the cluster reaches too, else None; `cpus` and
    `gpus`: what a job's own process holds while it runs.
    """

    remote: Remote
    arguments: Sequence[str]
    storage_url: str | None
    tracking: str | None
    cpus: float = 0.0
    gpus: float = 0.0


def send_order(client: Any, order: Order, terms: Terms) -> str:
    """Upload and start one run; the job's id.

    Raises ParameterError if the repository is too large, ClusterError if the cluster refuses.
    """
    job = f"selftrain-{order.commit[:8]}-{secrets.token_hex(4)}"
    request = Request(
        job=job,
        arguments=list(terms.arguments),
        settings=public_settings(terms.remote.settings),
        commit=order.commit,
        held=terms.tracking is None,
        storage_url=terms.storage_url,
    )
    with tempfile.TemporaryDirectory(prefix="selftrain-") as folder:
        package = Path(folder) / "repository.zip"
        request.write(Path(folder))
        told = {REQUEST: File((Path(folder) / REQUEST).read_bytes())}
        files = order.files | order.results | told
        size = write_zip(files, package)
        say(f"{order.title}: sending {len(files)} files, {size / MIB:.1f} MiB, as job {job}")
        hello = Path(folder) / HELLO
        hello.write_text(job, encoding="utf-8")
        terms.remote.put(hello, job, HELLO)
        try:
            return str(client.submit_job(**job_options(job, package, order, terms)))
        except (OSError, RuntimeError) as error:
            raise ClusterError(f"the cluster takes no job: {str(error).splitlines()[0]}") from None


def job_options(job: str, package: Path, order: Order, terms: Terms) -> dict[str, Any]:
    """The arguments of Ray's submit_job."""
    variables = {"MLFLOW_TRACKING_URI": terms.tracking} if terms.tracking else {}
    return {
        "entrypoint": ENTRYPOINT,
        "submission_id": job,
        "runtime_env": {"working_dir": str(package), "env_vars": variables},
        "metadata": metadata_of(order, terms.remote),
        "entrypoint_num_cpus": terms.cpus or None,
        "entrypoint_num_gpus": terms.gpus or None,
    }


def metadata_of(order: Order, remote: Remote) -> dict[str, str]:
    """What the cluster keeps beside a job, so that any clone can take it up again."""
    experiment = order.experiment
    values = {
        "commit": order.commit,
        "files": files_digest(order.files),
        "remote": value_digest(remote.url),
        "experiment": json.dumps(vars(experiment)) if experiment else "",
    }
    return {MARK + name: value for name, value in values.items()}


def told_experiment(metadata: dict[str, str]) -> Experiment | None:
    """The experiment that a job is, by its metadata."""
    text = metadata.get(MARK + "experiment")
    return Experiment(**json.loads(text)) if text else None


def shared_tracking(uri: str | None) -> str | None:
    """MLFLOW_TRACKING_URI or tracking.uri, if that is a server; a file or database is not."""
    chosen = os.environ.get("MLFLOW_TRACKING_URI") or uri or ""
    return chosen if chosen.startswith(("http://", "https://")) else None


def local_source(params: Params, files: Files) -> str | None:
    """The path of the images, if the cluster has to have it: not a URL, not among the files."""
    path = params.data.path
    if path is None or "://" in path:
        return None
    sent = any(name == path or name.startswith(path.rstrip("/") + "/") for name in files)
    return None if sent else path


def check_source(source: str | None, seen: Sequence[str], remote: Remote) -> None:
    """Raise ParameterError unless the cluster sees the images or need not read them."""
    if source is None or source in seen:
        return
    if any(stage == "prepare" for stage in remote.changed_stages()):
        raise ParameterError(
            f"data.path = {source}: not on the cluster; run `dvc repro prepare` here first (what "
            "it writes is sent along), or name a place that the cluster sees by the same path"
        )
    say(f"data.path = {source} is not on the cluster; prepare was done here, and is not repeated")
