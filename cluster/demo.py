"""Many nodes on one machine: a run that loses two of them, beside the same run that loses none.

python -m cluster.demo

A head and two workers are started as Ray nodes of their own on loopback. Two clones of this
commit are submitted one after the other, with the parameters of params.yaml but for the few that
let it spread. In the second a node is killed while it predicts, another comes, and one is killed
while it trains. Everything is watched from outside, so that both are the same program. Exits with
1 unless no image is lost or doubled and the accuracy is the same.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

from cluster.local import LocalCluster, Node, local_cluster
from cluster.package import git
from pipeline.data.shards import iter_shards, read_manifest
from pipeline.errors import ClusterError, SelftrainError
from pipeline.evaluate.metrics import correct
from pipeline.evaluate.result import load_result
from pipeline.evaluate.significance import compare
from pipeline.files import file_digest
from pipeline.progress import say
from pipeline.train.state import STATE
from pipeline.workflow.layout import Layout

CHANGES: dict[str, dict[str, Any]] = {
    "data": {"images_per_shard": 16},  # of 4096 the digits would be one, and nothing to lose
    "train": {"workers": 2, "min_workers": 1},
    "run": {"actors": [1, 2], "checkpoint_minutes": 0.05},
}
PREDICTING = r"^ray::.*PredictorActor.*\)\."  # as Ray titles a process while it is called
TRAINING = r"^ray::.*RayTrainWorker"
EARLY, LATE = 0.15, 0.7  # shares of the work between which a node is lost
DISTURBED = "1"  # the generation whose prediction and training lose a node


@dataclass(frozen=True)
class Project:
    """A clone of the commit, the storage that it shares with the cluster, and its parameters."""

    clone: Path
    storage: Path
    values: dict[str, Any]

    def at_work(self, pattern: str) -> list[Path]:
        """The files of the job at work that match."""
        return sorted(self.storage.glob(f"work/*/{pattern}"))

    def logged_steps(self) -> list[int]:
        """The steps whose losses the student has logged; one that was trained again is twice."""
        text = ""
        for path in self.at_work(f".selftrain/scratch/train_student@{DISTURBED}-*/history.jsonl"):
            with suppress(OSError):
                text += path.read_text(encoding="utf-8")
        return [int(s) for s in re.findall(r'"step": (\d+), "values": {[^}]*"loss":.*\n', text)]


def make_project(source: Path, folder: Path) -> Project:
    """Clone the commit of `source` into `folder`, with storage and CHANGES in its params.yaml."""
    clone, storage = folder / "repository", folder / "storage"
    storage.mkdir(parents=True)
    git(source, "clone", "--quiet", "--no-hardlinks", ".", str(clone))
    yaml = YAML()
    values = yaml.load(clone / "params.yaml")
    for section, changes in (CHANGES | {"storage": {"url": storage.as_uri()}}).items():
        values[section] = {**(values.get(section) or {}), **changes}
    yaml.dump(values, clone / "params.yaml")
    identity = ("-c", "user.name=demo", "-c", "user.email=demo@localhost")
    git(clone, *identity, "commit", "--quiet", "--all", "--message", "On a local cluster")
    return Project(clone, storage, values)


def run(cluster: LocalCluster, project: Project, *, lose: bool = False) -> list[int]:
    """Submit the project, lose nodes meanwhile if asked to; the steps that were logged then.

    Raises ClusterError unless the job ends well.
    """
    own = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_TRACKING"))}
    job = subprocess.Popen(
        [sys.executable, "-m", "cluster.submit", "--address", cluster.dashboard],
        cwd=project.clone,
        env=own | cluster.token | {"PYTHONPATH": ""},
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for this program, which ends the nodes and with them it
    )
    try:
        steps = lose_nodes(cluster, project, job) if lose else []
        if code := job.wait():
            raise ClusterError(f"the job ended with exit code {code}; see above")
        return steps
    finally:
        job.kill()
        job.wait()


def lose_nodes(cluster: LocalCluster, project: Project, job: subprocess.Popen[bytes]) -> list[int]:
    """Kill a node that predicts, add one, and kill one that trains; the steps that were logged."""
    for node_at_work in (predicting, training):
        while (node := node_at_work(cluster, project)) is None:
            if job.poll() is not None:
                raise ClusterError("the job ended before it could lose two nodes; see above")
            time.sleep(0.05)
        cluster.kill(node)
        say(f"demo: killed {node.name} while it was {node_at_work.__name__}")
        if node_at_work is predicting:
            say(f"demo: {cluster.add().name} came in its place")
    steps: list[int] = []
    while job.poll() is None:  # their file is removed at the training's end
        steps = max(steps, project.logged_steps(), key=len)
        time.sleep(0.05)
    return steps


def predicting(cluster: LocalCluster, project: Project) -> Node | None:
    """A node that is predicting a shard, once some are done and some are left."""
    done = len(list(project.storage.glob("shards/predictions-*/shard_*.json")))
    for manifest in project.at_work("prepared/unlabeled/manifest.json"):
        total = len(read_manifest(manifest.parent).shards)
        if EARLY * total <= done <= LATE * total:
            return next((n for n in cluster.workers if n.alive and n.runs(PREDICTING)), None)
    return None


def training(cluster: LocalCluster, project: Project) -> Node | None:
    """A node of two that train, once a state is saved and much is left to do."""
    total = project.values["train"]["steps"]
    if not EARLY * total <= max(project.logged_steps(), default=0) <= LATE * total:
        return None
    if not project.at_work(f".selftrain/scratch/train_student@{DISTURBED}-*/{STATE}"):
        return None
    nodes = [node for node in cluster.workers if node.alive and node.runs(TRAINING)]
    return nodes[-1] if len(nodes) > 1 else None


def retried_tasks(cluster: LocalCluster, actor: str) -> int:
    """How many tasks of an actor class, by a part of its name, Ray has tried again."""
    os.environ.update(cluster.token)
    from ray.util.state import list_tasks

    tasks: Any = list_tasks(cluster.dashboard, limit=10_000, raise_on_missing_output=False)
    return len({task.task_id for task in tasks if actor in task.name and task.attempt_number})


def checks(
    calm: Project, disturbed: Project, retried: int, steps: list[int]
) -> Iterator[tuple[bool, str]]:
    """What has to hold, and whether it does.

    The same shard gives the same bytes whoever predicts it. Fewer workers do not give the same
    student: each normalises its own part of a batch, and sums are rounded in another order.
    """
    again = len(steps) - len(set(steps))
    yield (
        bool(retried and steps) and steps.count(steps[0]) == 1,  # it did not begin anew
        f"2 nodes lost; predicted again elsewhere: {retried} shards; trained again from the last "
        f"state: {again} of {len(steps)} logged steps",
    )
    pair = [Layout(project.clone) for project in (calm, disturbed)]
    for generation in disturbed.values["generations"]:
        folders = pair[1].prepared / "unlabeled", pair[1].predictions(generation)
        yield check_images(generation, *map(ids_in, folders))
    same = exact_digests(pair[0]) == exact_digests(pair[1])
    yield same, "teacher, predictions and pseudo-labels: to the byte as without losses"
    for generation in disturbed.values["generations"]:
        results = [load_result(layout.evaluation(generation)) for layout in pair]
        right = [correct(result.test_log_probs, result.test_labels) for result in results]
        test = compare(right[0], right[1])
        yield (
            test.verdict not in ("better", "worse"),
            f"generation {generation}: test accuracy {right[1].mean():.2%} with losses, "
            f"{right[0].mean():.2%} without (p = {test.p_value:.2f})",
        )


def check_images(generation: str, wanted: Counter[str], found: Counter[str]) -> tuple[bool, str]:
    """Whether each unlabelled image has one prediction."""
    lost, doubled = (wanted - found).total(), (found - wanted).total()
    words = f"{found.total()} images predicted, {lost} lost, {doubled} doubled"
    return not lost and not doubled, f"generation {generation}: {words}"


def ids_in(folder: Path) -> Counter[str]:
    """How often each image's ID is in the shards of a folder."""
    return Counter(str(i) for table in iter_shards(folder, ["id"]) for i in table["id"].to_pylist())


def exact_digests(layout: Layout) -> list[object]:
    """Digests of what losses must not change: teacher, predictions, pseudo-labels."""
    folders = layout.predictions(DISTURBED), layout.pseudo_labels(DISTURBED)
    shards = [[(e.rows, e.sha256) for e in read_manifest(folder).shards] for folder in folders]
    return [file_digest(layout.model("0") / "model.safetensors"), *shards]


@contextmanager
def workplace() -> Iterator[Path]:
    """A temporary folder; on leaving, the processes that work in it are ended and it is removed."""
    with tempfile.TemporaryDirectory(prefix="selftrain-demo-", ignore_cleanup_errors=True) as name:
        try:
            yield Path(name).resolve()
        finally:
            for process in psutil.process_iter():
                with suppress(psutil.Error):
                    if Path(process.cwd()).is_relative_to(Path(name).resolve()):
                        process.kill()


def demonstrate(source: Path) -> bool:
    """Run the commit of `source` twice, say what came of it; whether all is as it should be."""
    say("demo: starting a head and 2 worker nodes on loopback")
    with workplace() as folder, local_cluster(2, head_cpus=0) as cluster:
        calm = make_project(source, folder / "calm")
        disturbed = make_project(source, folder / "disturbed")
        say(f"demo: up at {cluster.address}; first a run that loses no node")
        run(cluster, calm)
        say("demo: now the same run, which loses a node while it predicts and one while it trains")
        steps = run(cluster, disturbed, lose=True)
        retried = retried_tasks(cluster, "PredictorActor")
        found = list(checks(calm, disturbed, retried, steps))
    for holds, words in found:
        say(f"{'ok ' if holds else 'NOT'}  {words}")
    return all(holds for holds, _ in found)


def main() -> int:
    """The exit code: 0 where the run that lost nodes came to the same."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return 0 if demonstrate(Path.cwd()) else 1
    except SelftrainError as error:
        print(f"demo: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        print("demo: stopped", flush=True)
        return 130


if __name__ == "__main__":
    sys.exit(main())
