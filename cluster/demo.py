"""Many nodes on one machine: a run that loses two of them, beside the same run that loses none.

python -m cluster.demo

A head and two workers are started as Ray nodes of their own on loopback. Two clones of this
commit are submitted one after the other, with the parameters of params.yaml but for the few that
let it spread. In the second a node is killed while it predicts, another comes, and one is killed
while it trains. Everything is watched from outside, so that both are the same program. Exits with
1 unless no image is lost or doubled and the accuracy is the same.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from cluster.local import TOKEN, LocalCluster, Node, local_cluster
from cluster.package import git
from pipeline.data.shards import iter_shards, read_manifest
from pipeline.errors import ClusterError
from pipeline.evaluate.result import load_result
from pipeline.files import file_digest
from pipeline.progress import say
from pipeline.tasks import open_task
from pipeline.tasks.significance import BOOTSTRAP
from pipeline.tracking.tracker import hold_spools
from pipeline.train.state import STATE
from pipeline.workflow.command import run_command
from pipeline.workflow.layout import Layout

CHANGES: dict[str, dict[str, Any]] = {
    "data": {"images_per_shard": 16},  # of 4096 the digits would be one, and nothing to lose
    "train": {"workers": 2, "min_workers": 1},
    "run": {"actors": [1, 2], "checkpoint_minutes": 0.05},
}
PREDICTING = r"^ray::.*PredictorActor.*\)\."  # as Ray titles a process while it is called
TRAINING = r"^ray::.*RayTrainWorker"
DONE_SHARDS = 8  # before a node is lost
DISTURBED = "1"  # the generation whose prediction and training lose a node


@dataclass(frozen=True)
class Project:
    """A clone of the commit, the storage that it shares with the cluster, and its parameters."""

    clone: Path
    storage: Path
    values: dict[str, Any]


def make_project(source: Path, folder: Path) -> Project:
    """Clone the commit of `source` into `folder`, with storage and CHANGES in its params.yaml."""
    clone, storage = folder / "repository", folder / "storage"
    storage.mkdir(parents=True)
    git(source, "clone", "--quiet", "--no-hardlinks", ".", str(clone))
    hold_spools(clone)  # for nobody
    yaml = YAML()
    values = yaml.load(clone / "params.yaml")
    for section, changes in (CHANGES | {"storage": {"url": storage.as_uri()}}).items():
        values[section] = {**(values.get(section) or {}), **changes}
    yaml.dump(values, clone / "params.yaml")
    identity = ("-c", "user.name=demo", "-c", "user.email=demo@localhost")
    git(clone, *identity, "commit", "--quiet", "--all", "--message", "On a local cluster")
    return Project(clone, storage, values)


def run(cluster: LocalCluster, project: Project, *, lose: bool = False) -> None:
    """Submit the project, and lose nodes meanwhile if asked to.

    Raises ClusterError unless the job ends well.
    """
    own = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    job = subprocess.Popen(
        [sys.executable, "-m", "cluster.submit", "--address", cluster.dashboard],
        cwd=project.clone,
        env=own | TOKEN | {"PYTHONPATH": ""},
        start_new_session=True,  # Ctrl-C is for this program, which ends the nodes and with them it
    )
    try:
        for node_at_work in (predicting, training) if lose else ():
            while (node := node_at_work(cluster, project)) is None:
                if job.poll() is not None:
                    raise ClusterError("the job ended before it could lose two nodes; see above")
                time.sleep(0.05)
            node.kill()
            say(f"demo: killed {node.name} while it was {node_at_work.__name__}")
            if node_at_work is predicting:
                say(f"demo: {cluster.add().name} came in its place")
        if code := job.wait():
            raise ClusterError(f"the job ended with exit code {code}; see above")
    finally:
        job.kill()
        job.wait()


def predicting(cluster: LocalCluster, project: Project) -> Node | None:
    """A node that is predicting a shard, once some are done."""
    if len(list(project.storage.glob("shards/predictions-*/shard_*.json"))) < DONE_SHARDS:
        return None
    return next((node for node in cluster.workers if node.runs(PREDICTING)), None)


def training(cluster: LocalCluster, project: Project) -> Node | None:
    """A node of two that train, once a state is saved."""
    scratch = f".selftrain/scratch/train_student@{DISTURBED}-*"
    if not list(project.storage.glob(f"work/*/{scratch}/{STATE}")):
        return None
    nodes = [node for node in cluster.workers if node.runs(TRAINING)]
    return nodes[-1] if len(nodes) > 1 else None


def checks(calm: Project, disturbed: Project) -> Iterator[tuple[bool, str]]:
    """What has to hold, and whether it does.

    The same shard gives the same bytes whoever predicts it. Fewer workers do not give the same
    student: each normalises its own part of a batch, and sums are rounded in another order.
    """
    layouts = Layout(calm.clone), Layout(disturbed.clone)
    task = open_task("classification")
    for generation in disturbed.values["generations"]:
        folders = layouts[1].prepared / "unlabeled", layouts[1].predictions(generation)
        yield check_images(generation, *map(ids_in, folders))
    same = exact_digests(layouts[0]) == exact_digests(layouts[1])
    yield same, "teacher, predictions and pseudo-labels: to the byte as without losses"
    for generation in disturbed.values["generations"]:
        calm_result, result = (
            load_result(layout.evaluation(generation), task) for layout in layouts
        )
        test = task.compare(calm_result.test_evidence(task), result.test_evidence(task), BOOTSTRAP)
        yield (
            test.verdict not in ("better", "worse"),
            f"generation {generation}: test {task.score_words} {result.test.score:.2%} with "
            f"losses, {calm_result.test.score:.2%} without (p = {test.p_value:.2f})",
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


def demonstrate(source: Path) -> None:
    """Run the commit of `source` twice and say what came of it.

    Raises ClusterError unless all is as it should be.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say("demo: starting a head and 2 worker nodes on loopback")
    with tempfile.TemporaryDirectory(prefix="selftrain-demo-") as name:
        calm, disturbed = (make_project(source, Path(name) / run) for run in ("calm", "disturbed"))
        with local_cluster(2, head_cpus=0) as cluster:
            say(f"demo: up at {cluster.dashboard}; first a run that loses no node")
            run(cluster, calm)
            say("demo: now the same run, which loses a node in prediction and one in training")
            run(cluster, disturbed, lose=True)
        found = list(checks(calm, disturbed))
    for holds, words in found:
        say(f"{'ok ' if holds else 'NOT'}  {words}")
    if not all(holds for holds, _ in found):
        raise ClusterError("the run that lost nodes did not come to the same; see above")


def main() -> int:
    """The exit code: 0 where the run that lost nodes came to the same."""
    parser = argparse.ArgumentParser(prog="python -m cluster.demo", description=__doc__)
    return run_command("demo", parser, lambda _: demonstrate(Path.cwd()))


if __name__ == "__main__":
    sys.exit(main())
