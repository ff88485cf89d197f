"""Many nodes on one machine: a run that loses two of them, beside the same run that loses none.

python -m cluster.demo

A head and two workers are started as Ray nodes of their own on loopback. Two clones of this
commit are submitted one after the other, with the parameters of params.yaml but for the few that
let it spread. In the second a node is killed while it predicts, another comes, and one is killed
while it trains. Exits with 1 unless no image is lost or doubled and the accuracy is the same.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cluster.demo_losses import PREDICTING, Seen, following, lose_nodes
from cluster.demo_project import Project, check_status, environment, make_project
from cluster.demo_verdict import verdict
from cluster.local import LocalCluster, local_cluster
from pipeline.errors import ClusterError, SelftrainError
from pipeline.progress import say
from pipeline.ray.quiet import quiet_ray

POLL_SECONDS = 0.05
NODES = 2
MOST_TASKS = 10_000  # that Ray lists


def demonstrate(source: Path, overrides: Sequence[str] = ()) -> bool:
    """Run both, say what came of it; whether all is as it should be.

    source: the repository, whose commit is run; overrides: SECTION.NAME=VALUE for its
    params.yaml. Raises ClusterError where a node does not start or a run fails.
    """
    seen = Seen()
    say(f"demo: starting a head and {NODES} worker nodes on loopback")
    with workplace() as folder, local_cluster(NODES, head_cpus=0) as cluster:
        calm = make_project(source, folder / "calm", overrides)
        disturbed = make_project(source, folder / "disturbed", overrides)
        say(f"demo: up at {cluster.address}; first a run that loses no node")
        submit(cluster, calm, lambda: None)
        say("demo: now the same run, which loses a node while it predicts and one while it trains")
        submit(cluster, disturbed, following(lose_nodes(cluster, disturbed, seen)))
        checks = verdict(calm, disturbed, seen, retried_tasks(cluster, PREDICTING))
    for check in checks:
        say(str(check))
    return all(check.holds for check in checks)


def submit(cluster: LocalCluster, project: Project, meanwhile: Callable[[], None]) -> None:
    """Run the project as a job, calling `meanwhile` again and again; ClusterError if it fails."""
    variables = environment(cluster.environment)
    command = [sys.executable, "-m", "cluster.submit", "--address", cluster.dashboard]
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=project.folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for this program, which ends the nodes and with them it
    )
    try:
        while process.poll() is None:
            meanwhile()
            time.sleep(POLL_SECONDS)
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise ClusterError(f"the job ended with exit code {process.returncode}; see above")
    check_status(project, variables)
    say(f"demo: done in {time.monotonic() - started:.0f} s, dvc status is clean")


def retried_tasks(cluster: LocalCluster, actor: str) -> list[str]:
    """The IDs of the tasks of an actor class, by a part of its name, that Ray has tried again."""
    os.environ.update(cluster.environment)
    quiet_ray()
    from ray.util.state import list_tasks

    tasks: Any = list_tasks(
        address=cluster.dashboard, limit=MOST_TASKS, raise_on_missing_output=False
    )
    again = {task.task_id for task in tasks if actor in task.name and task.attempt_number}
    return sorted(again)


@contextmanager
def workplace() -> Iterator[Path]:
    """A temporary folder; on leaving, the processes that work in it are ended and it is removed."""
    with tempfile.TemporaryDirectory(prefix="selftrain-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        try:
            yield folder
        finally:
            end_processes_in(folder)


def end_processes_in(folder: Path) -> None:
    """Kill every process whose current folder is under `folder`: jobs, their stages, senders."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if (entry / "cwd").readlink().is_relative_to(folder):
                os.kill(int(entry.name), signal.SIGKILL)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 where the run that lost nodes came to the same."""
    text = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m cluster.demo", description=text)
    parser.add_argument(
        *("-S", "--set"),
        metavar="SECTION.NAME=VALUE",
        action="append",
        default=[],
        help="another parameter for both runs, as train.steps=300",
    )
    wanted = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return 0 if demonstrate(Path.cwd(), wanted.set) else 1
    except SelftrainError as error:
        print(f"demo: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        print("demo: stopped", flush=True)
        return 130


if __name__ == "__main__":
    sys.exit(main())
