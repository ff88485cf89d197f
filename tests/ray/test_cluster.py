"""Three nodes that predict and train: one is lost, or they do not see the folder of the driver."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.local import LocalCluster, local_cluster
from pipeline.data.predictions import read_predictions
from pipeline.data.shards import iter_shards, read_manifest
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import upload_shards
from pipeline.files import file_digest
from pipeline.labels.predict import finish_predictions
from pipeline.models.checkpoint import load_checkpoint
from pipeline.tasks.classification import TASK
from pipeline.train.state import STATE
from tests.cluster.programs import answer_of, start_on
from tests.ray.cluster_programs import predictor_of
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


PROGRAM = ("-m", "tests.ray.cluster_programs")


def test_a_lost_node_loses_and_doubles_no_image(cluster: LocalCluster, work: Path) -> None:
    out = work / "lost" / "predictions"
    driver = start_on(cluster, *PROGRAM, "predict", str(work), str(out))
    wait_until(driver, lambda: len(list(out.glob("*.parquet"))) >= 3)
    done = len(list(out.glob("*.parquet")))
    cluster.workers[0].kill()
    shards = len(read_manifest(work / "prepared" / "unlabeled").shards)
    assert done < shards
    assert answer_of(driver, SECONDS) == {"predicted": shards}
    check(work, out)


def test_what_nodes_do_not_see_is_refused_with_what_would_do(
    cluster: LocalCluster, work: Path
) -> None:
    scratch = work / "refused"
    scratch.mkdir()
    said = answer_of(start_on(cluster, *PROGRAM, "refused", str(work), str(scratch)), SECONDS)
    assert [line.split("; ")[0].split(" can't see ")[1] for line in said] == ["/proc/self/cwd"] * 2
    assert [line.split(" or ")[-1] for line in said] == [
        "set storage.url",
        "train on one node, with train.workers = 0",
    ]


def test_nodes_that_see_storage_alone_predict_the_same(cluster: LocalCluster, work: Path) -> None:
    own, out = work / "own", StoredFolder((work / "stored" / "predictions").as_uri())
    for name in ("prepared", "model"):
        shutil.copytree(work / name, own / name)
    unlabeled = own / "prepared" / "unlabeled"
    upload_shards(unlabeled, StoredFolder((work / "stored").as_uri()), "images")
    answer_of(start_on(cluster, *PROGRAM, "from_storage", str(own), out.uri), SECONDS)
    manifest = finish_predictions(unlabeled, out, 3, manifest_in=own / "predictions")
    assert {entry.file: entry.sha256 for entry in manifest.shards} == {
        path.name: file_digest(path) for path in (work / "alone").glob("*.parquet")
    }


def test_a_shard_that_ends_every_process_ends_the_run(cluster: LocalCluster, work: Path) -> None:
    """Ray would start its actors again for ever."""
    out = work / "poisoned" / "predictions"
    driver = start_on(cluster, *PROGRAM, "poisoned", str(work), str(out))
    assert "died" in answer_of(driver, SECONDS)["error"]


def test_training_goes_on_with_the_workers_left(cluster: LocalCluster, work: Path) -> None:
    scratch = work / "train_lost"
    scratch.mkdir()
    for node in [node for node in cluster.workers if node.processes()][1:]:
        node.kill()  # two nodes of one CPU: each then holds a worker
    lost = cluster.add()
    driver = start_on(cluster, *PROGRAM, "train", str(work), str(scratch))
    history = scratch / "history.jsonl"
    wait_until(driver, lambda: (scratch / STATE).exists() and len(steps_of(history)) >= 3)
    lost.kill()
    reached = steps_of(history)[-1]
    assert reached < 400
    assert answer_of(driver, SECONDS)["last"] == 400
    assert set(steps_of(history)) == set(range(5, 401, 5))
    assert steps_of(history).count(5) == 1  # it did not begin again
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
    ids = Counter(name for shard in read_predictions(out, TASK) for name in shard.ids)
    tables = iter_shards(unlabeled, ["id"])
    assert ids == Counter(name for table in tables for name in table.column("id").to_pylist())
    for path in sorted((work / "alone").glob("*.parquet")):
        assert (out / path.name).read_bytes() == path.read_bytes()
