"""Many nodes on one machine: a run that loses five of them, beside the same run in one process.

python -m cluster.demo

A head and two workers are started as Ray nodes of their own on loopback. Two clones of this
commit are submitted one after the other, with the parameters of params.yaml but for the few that
let it spread. The first prepares in its own process, and has one actor. The second loses a node in
each pass of prepare, until there is none, and one each while it embeds, predicts and trains; others
come. Everything is watched from outside, so that both are the same program. Exits with 1 unless no
image is lost or doubled, the bytes are the same and so is the accuracy.
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from cluster.local import TOKEN, LocalCluster, Node, local_cluster
from cluster.package import git
from pipeline.data.features import PARTS
from pipeline.data.preparation.prepare import DATASET_FILE, QUARANTINE_FILE, TRUTH_FILE
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
    "embed": {"source": "packaged", "input_size": 128},  # so large that it takes a while
    "train": {"workers": 2, "min_workers": 1},
}
CALM: dict[str, Any] = {"actors": 1, "prepare_workers": 0, "checkpoint_minutes": 0.05}
DISTURBED: dict[str, Any] = {"actors": [1, 2], "prepare_workers": 2, "checkpoint_minutes": 0.05}
TASK, ACTOR, TRAINING = (  # as Ray titles a process at work
    r"^ray::.*_done_by",
    r"^ray::.*PredictorActor.*\)\.",
    r"^ray::.*RayTrainWorker",
)
GENERATION = "1"  # whose prediction and training lose a node


@dataclass(frozen=True)
class Loss:
    """Of a node at some work, once `done` files of a pattern in storage show how far that is.

    title: of its process; at_work: the fewest nodes of which one is lost; come: how many do then.
    """

    work: str
    title: str
    files: str
    done: int
    at_work: int = 1
    come: int = 0

    def node(self, cluster: LocalCluster, storage: Path) -> Node | None:
        """The node to lose; None while it is too early."""
        if len(list(storage.glob(self.files))) < self.done:
            return None
        nodes = [node for node in cluster.workers if node.runs(self.title)]
        return nodes[-1] if len(nodes) >= self.at_work else None


SCRATCH = f"work/*/.selftrain/scratch/train_student@{GENERATION}-*"
LOSSES = (
    Loss("the first pass of prepare", TASK, "shards/slices-*/slice_*.parquet", 2),
    Loss("the second pass of prepare", TASK, "shards/*labeled-*/shard_*.json", 8, come=2),
    Loss("embed", ACTOR, "shards/features-*/shard_*.json", 8, come=1),
    Loss("pseudo_label", ACTOR, "shards/predictions-*/shard_*.json", 8, come=1),
    Loss("train_student", TRAINING, f"{SCRATCH}/{STATE}", 1, at_work=2),
)


@dataclass(frozen=True)
class Project:
    """A clone of the commit, the storage that it shares with the cluster, and its parameters."""

    clone: Path
    storage: Path
    values: dict[str, Any]


def make_project(source: Path, folder: Path, speed: dict[str, Any]) -> Project:
    """Clone the commit of `source` into `folder`, with storage, CHANGES and what its section `run`
    says in its params.yaml."""
    clone, storage = folder / "repository", folder / "storage"
    storage.mkdir(parents=True)
    git(source, "clone", "--quiet", "--no-hardlinks", ".", str(clone))
    hold_spools(clone)  # for nobody
    yaml = YAML()
    values = yaml.load(clone / "params.yaml")
    more = {"storage": {"url": storage.as_uri()}, "run": speed}
    for section, changes in (CHANGES | more).items():
        values[section] = {**(values.get(section) or {}), **changes}
    yaml.dump(values, clone / "params.yaml")
    identity = ("-c", "user.name=demo", "-c", "user.email=demo@localhost")
    git(clone, *identity, "commit", "--quiet", "--all", "--message", "On a local cluster")
    return Project(clone, storage, values)


def run(cluster: LocalCluster, project: Project, losses: Sequence[Loss] = ()) -> None:
    """Submit the project, and lose these nodes meanwhile, one after the other.

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
        for loss in losses:
            while (node := loss.node(cluster, project.storage)) is None:
                if job.poll() is not None:
                    raise ClusterError(f"the job ended before {loss.work} lost a node; see above")
                time.sleep(0.05)
            node.kill()
            done = len(list(project.storage.glob(loss.files)))
            say(f"demo: killed {node.name} at work in {loss.work}, after {done} of its files")
            for _ in range(loss.come):
                say(f"demo: {cluster.add().name} came")
        if code := job.wait():
            raise ClusterError(f"the job ended with exit code {code}; see above")
    finally:
        job.kill()
        job.wait()


def checks(calm: Project, disturbed: Project) -> Iterator[tuple[bool, str]]:
    """What has to hold, and whether it does.

    The same shard gives the same bytes whoever predicts it. Fewer workers do not give the same
    student: each normalises its own part of a batch, and sums are rounded in another order.
    """
    layouts = Layout(calm.clone), Layout(disturbed.clone)
    task = open_task("classification")
    once, prepared, embedded = (
        sum((ids_in(folder(part)) for part in PARTS), Counter[str]())
        for folder in (
            layouts[0].prepared.__truediv__,
            layouts[1].prepared.__truediv__,
            layouts[1].features,
        )
    )
    yield check_images("prepared", once, prepared)
    yield check_images("embedded", once, embedded)
    for generation in disturbed.values["generations"]:
        folders = layouts[1].prepared / "unlabeled", layouts[1].predictions(generation)
        yield check_images(f"predicted for generation {generation}", *map(ids_in, folders))
    for what, same in same_bytes(*layouts).items():
        yield same, f"{what}: to the byte as in one process without losses"
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


def check_images(what: str, wanted: Counter[str], found: Counter[str]) -> tuple[bool, str]:
    """Whether each image that is wanted was found once."""
    lost, doubled = (wanted - found).total(), (found - wanted).total()
    words = f"{found.total()} images, {lost} lost, {doubled} doubled"
    return not lost and not doubled, f"{what}: {words}"


def ids_in(folder: Path) -> Counter[str]:
    """How often each image's ID is in the shards of a folder."""
    return Counter(str(i) for table in iter_shards(folder, ["id"]) for i in table["id"].to_pylist())


def same_bytes(calm: Layout, disturbed: Layout) -> dict[str, bool]:
    """Whether what losses must not change has the same SHA-256 in both, by what it is."""

    def digests(layout: Layout) -> dict[str, list[object]]:
        prepared = [layout.prepared / name for name in (TRUTH_FILE, QUARANTINE_FILE, DATASET_FILE)]
        teacher = layout.model("0") / "model.safetensors"
        return {
            "prepared": [
                *map(file_digest, prepared),
                *(shards_in(layout.prepared / part) for part in PARTS),
            ],
            "features": [shards_in(layout.features(part)) for part in PARTS],
            "teacher, predictions and pseudo-labels": [
                file_digest(teacher),
                shards_in(layout.predictions(GENERATION)),
                shards_in(layout.pseudo_labels(GENERATION)),
            ],
        }

    others = digests(disturbed)
    return {what: found == others[what] for what, found in digests(calm).items()}


def shards_in(folder: Path) -> list[tuple[int, str]]:
    """The rows and the SHA-256 of each shard of a folder."""
    return [(entry.rows, entry.sha256) for entry in read_manifest(folder).shards]


def demonstrate(source: Path) -> None:
    """Run the commit of `source` twice and say what came of it.

    Raises ClusterError unless all is as it should be.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say("demo: starting a head and 2 worker nodes on loopback")
    with tempfile.TemporaryDirectory(prefix="selftrain-demo-") as name:
        calm = make_project(source, Path(name) / "calm", CALM)
        disturbed = make_project(source, Path(name) / "disturbed", DISTURBED)
        with local_cluster(2, head_cpus=0) as cluster:
            say(f"demo: up at {cluster.dashboard}; first a run in one process, losing no node")
            run(cluster, calm)
            say(f"demo: now the same run on two nodes, of which {len(LOSSES)} are lost in all")
            run(cluster, disturbed, LOSSES)
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
