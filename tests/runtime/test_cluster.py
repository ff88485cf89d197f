"""Prediction and training on three nodes, of which one is lost, or none sees the driver's files."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.local import LocalCluster, local_cluster
from pipeline.data.predictions import read_predictions
from pipeline.data.shards import iter_shards, read_manifest
from pipeline.labels.predict import finish_predictions
from pipeline.models.checkpoint import load_checkpoint
from pipeline.train.state import STATE
from tests.cluster.programs import answer_of, start_on
from tests.runtime.cluster_programs import predictor_of
from tests.tiny import prepared_stripes, save_model

pytestmark = [pytest.mark.slow, pytest.mark.nodes, pytest.mark.timeout(900)]
SECONDS = 400  # a busy machine is slow to start Ray's processes


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster(2, cpus=1, head_cpus=0) as running:
        yield running


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, images to predict in many shards, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("work")
    prepared_stripes(folder / "prepared", 220, images_per_shard=12)
    save_model(folder / "model")
    predictor = predictor_of(folder, folder / "alone")
    for number in range(len(predictor.manifest.shards)):
        predictor(number)
    return folder


PROGRAM = ("-m", "tests.runtime.cluster_programs")


def test_a_lost_node_loses_and_doubles_no_image(cluster: LocalCluster, work: Path) -> None:
    out = work / "lost" / "predictions"
    driver = start_on(cluster, *PROGRAM, "predict", str(work), str(out), "seeing")
    wait_until(driver, lambda: len(list(out.glob("*.parquet"))) >= 3)
    done = len(list(out.glob("*.parquet")))
    cluster.kill(cluster.workers[0])
    shards = len(read_manifest(work / "prepared" / "unlabeled").shards)
    assert done < shards
    assert answer_of(driver, SECONDS) == {"predicted": shards}
    check(work, out)


def test_nodes_that_do_not_see_the_folder_predict_the_same(
    cluster: LocalCluster, work: Path
) -> None:
    out = work / "blind" / "predictions"
    driver = start_on(cluster, *PROGRAM, "predict", str(work), str(out), "blind")
    answer_of(driver, SECONDS)
    check(work, out)
    assert not list(work.glob("blind/.seen"))


def test_a_shard_that_ends_every_process_ends_the_run(cluster: LocalCluster, work: Path) -> None:
    """Ray would start its actors again for ever."""
    out = work / "poisoned" / "predictions"
    driver = start_on(cluster, *PROGRAM, "poisoned", str(work), str(out))
    assert "died" in answer_of(driver, SECONDS)["error"]


def test_training_goes_on_with_the_workers_left(cluster: LocalCluster, work: Path) -> None:
    scratch = work / "train_lost"
    scratch.mkdir()
    for node in [node for node in cluster.workers if node.alive][1:]:
        cluster.kill(node)  # two nodes of one CPU: each then holds a worker
    lost = cluster.add()
    driver = start_on(cluster, *PROGRAM, "train", str(work), str(scratch), "seeing")
    history = scratch / "history.jsonl"
    wait_until(driver, lambda: (scratch / STATE).exists() and len(steps_of(history)) >= 3)
    cluster.kill(lost)
    reached = steps_of(history)[-1]
    assert reached < 400
    assert answer_of(driver, SECONDS)["last"] == 400
    assert set(steps_of(history)) == set(range(5, 401, 5))
    assert steps_of(history).count(5) == 1  # it did not begin again
    assert load_checkpoint(scratch / "model").spec.generation == "0"


def test_workers_that_do_not_see_the_folder_train_and_save(
    cluster: LocalCluster, work: Path
) -> None:
    scratch = work / "train_blind"
    scratch.mkdir()
    driver = start_on(cluster, *PROGRAM, "train", str(work), str(scratch), "blind")
    assert answer_of(driver, SECONDS)["last"] == 400
    assert (scratch / STATE).exists()
    assert load_checkpoint(scratch / "model").spec.generation == "0"


def wait_until(driver: subprocess.Popen[str], done: Callable[[], bool]) -> None:
    """Return once `done`, while `driver` runs."""
    until = time.monotonic() + SECONDS
    while not done():
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def steps_of(history: Path) -> list[int]:
    """The steps whose losses are logged, in the order in which they were."""
    lines = history.read_text().splitlines() if history.exists() else []
    points = [json.loads(line) for line in lines if line.endswith("}}")]
    return [point["step"] for point in points if "loss" in point["values"]]


def check(work: Path, out: Path) -> None:
    """Every unlabelled image once, and the bytes that one process alone has written."""
    unlabeled = work / "prepared" / "unlabeled"
    finish_predictions(unlabeled, out, 3)
    ids = Counter(name for shard in read_predictions(out) for name in shard.ids)
    tables = iter_shards(unlabeled, ["id"])
    assert ids == Counter(name for table in tables for name in table.column("id").to_pylist())
    for path in sorted((work / "alone").glob("*.parquet")):
        assert (out / path.name).read_bytes() == path.read_bytes()
