"""Lose nodes of a local cluster while a run is at work on it, and keep what can be seen of that.

Everything is read from outside: the nodes' processes, the storage, the files of the job. So the
run that is disturbed is the same program as one that is not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cluster.demo_project import Project
from cluster.local import LocalCluster
from cluster.node import Node
from pipeline.data.shards import read_manifest
from pipeline.errors import SelftrainError
from pipeline.progress import say
from pipeline.train.state import STATE

PREDICTING = "PredictorActor"  # as Ray names the processes
TRAINING = "RayTrainWorker"
EARLY, LATE = 0.15, 0.7  # shares of the work between which a node is lost
STAGE_LOST = "train_student@1"


@dataclass
class Seen:
    """What was seen of the losses: shards and steps when a node was lost, steps trained again."""

    shards: int = 0
    shards_done: int | None = None
    shards_open: int = 0
    step_lost: int | None = None
    steps: int = 0
    lost: list[str] = field(default_factory=list)
    logged: list[int] = field(default_factory=list)

    @property
    def steps_again(self) -> int:
        """Steps that were trained twice, as far as they were logged."""
        return len(self.logged) - len(set(self.logged))


def lose_nodes(cluster: LocalCluster, project: Project, seen: Seen) -> Iterator[None]:
    """Kill a node that predicts, add one, and kill one that trains; to be resumed again and again.

    It yields where it waits. What happened is in `seen`.
    """
    while (victim := predicting(cluster, project, seen)) is None:
        yield
    lose(cluster, victim, seen, f"{seen.shards_done} of {seen.shards} shards were predicted")
    added = cluster.add()
    say(f"demo: {added.name} came in its place")
    while (victim := training(cluster, project, seen)) is None:
        yield
    lose(cluster, victim, seen, f"at step {seen.step_lost} of {seen.steps}")
    while True:
        keep_history(project, seen)
        yield


def lose(cluster: LocalCluster, node: Node, seen: Seen, when: str) -> None:
    """Kill the node and say so."""
    cluster.kill(node)
    seen.lost.append(node.name)
    say(f"demo: killed {node.name}: {when}")


def predicting(cluster: LocalCluster, project: Project, seen: Seen) -> Node | None:
    """A node that is predicting a shard, once some are done and some are left; notes how many."""
    done, total = shards_done(project), shards_to_do(project)
    if not total or not EARLY * total <= done <= LATE * total:
        return None
    busy = [node for node in cluster.living_workers() if cluster.runs(node, PREDICTING, busy=True)]
    if len(cluster.living_workers()) < 2 or not busy:
        return None
    seen.shards, seen.shards_done = total, done
    return busy[-1]


def training(cluster: LocalCluster, project: Project, seen: Seen) -> Node | None:
    """A node of two that train, once a state is saved and much is left to do; notes the step."""
    scratch = scratch_of(project, STAGE_LOST)
    if scratch is None or not (scratch / STATE).exists():
        return None
    steps = total_steps(project)
    at_work = [node for node in cluster.living_workers() if cluster.runs(node, TRAINING)]
    keep_history(project, seen)
    last = seen.logged[-1] if seen.logged else 0
    if len(at_work) < 2 or not EARLY * steps <= last <= LATE * steps:
        return None
    seen.step_lost, seen.steps = last, steps
    return at_work[-1]


def keep_history(project: Project, seen: Seen) -> None:
    """Note the logged steps of the training that loses a node; it removes its file at its end."""
    if (scratch := scratch_of(project, STAGE_LOST)) is not None:
        seen.logged = max(seen.logged, logged_steps(scratch / "history.jsonl"), key=len)


def logged_steps(history: Path) -> list[int]:
    """The steps whose losses are logged in a file of JSON lines, in the order in which they were.

    A step that was trained again is there twice.
    """
    try:
        text = history.read_text(encoding="utf-8")
    except OSError:
        return []
    steps = []
    for line in text.splitlines():
        with suppress(ValueError, KeyError):
            point = json.loads(line)
            steps += [int(point["step"])] if "loss" in point["values"] else []
    return steps


def scratch_of(project: Project, stage: str) -> Path | None:
    """The scratch folder of a stage that is at work in a job."""
    found = [path for work in project.work() for path in work.glob(f".selftrain/scratch/{stage}-*")]
    return found[0] if found else None


def total_steps(project: Project) -> int:
    """How many steps the students train."""
    return int(project.values["train"]["steps"])


def shards_to_do(project: Project) -> int:
    """How many shards of unlabelled images the job has prepared; 0 before."""
    for work in project.work():
        with suppress(SelftrainError, OSError):
            return len(read_manifest(work / "prepared" / "unlabeled").shards)
    return 0


def shards_done(project: Project) -> int:
    """How many shards of predictions are in storage."""
    return len(list(project.storage.glob("shards/predictions-*/shard_*.json")))


def following(scenario: Iterator[None]) -> Callable[[], None]:
    """A function that takes the scenario a step further."""

    def follow() -> None:
        next(scenario, None)

    return follow
