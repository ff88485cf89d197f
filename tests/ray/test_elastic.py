"""Three nodes that prepare and embed: one is lost at work, another joins and takes over."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.local import LocalCluster, local_cluster
from pipeline.data.preparation.prepare import DATASET_FILE, QUARANTINE_FILE, TRUTH_FILE
from pipeline.data.shards import iter_shards, read_manifest
from pipeline.files import file_digest
from pipeline.models.embed import ShardEmbedder
from pipeline.ray.limits import ITEMS_PER_WORKER
from tests.cluster.programs import answer_of, start_on
from tests.data.helpers import FOLDERS, encoded, noise
from tests.ray.cluster_programs import prepared
from tests.ray.test_cluster import PROGRAM, SECONDS, wait_until
from tests.tiny import prepared_stripes, save_model

pytestmark = [pytest.mark.slow, pytest.mark.nodes, pytest.mark.timeout(900)]
IMAGES = 700  # of which a slice has 64


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster(2, cpus=1, head_cpus=0) as running:
        yield running


def test_prepare_survives_a_lost_node_in_either_pass(cluster: LocalCluster, tmp_path: Path) -> None:
    source, work, alone = (tmp_path / name for name in ("source", "work", "alone"))
    for number in range(IMAGES):
        path = source / f"class_{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(noise(number)))
    (source / "class_0" / "0.png").write_bytes(b"no image")
    prepared(source, alone, None)
    driver = start_on(cluster, *PROGRAM, "prepare", str(source), str(work))
    for name in ("SliceIngest", "SideShards"):
        replace_a_node(cluster, driver, work / "gates" / name)
    assert answer_of(driver, SECONDS) == "prepared"
    ids: Counter[str] = Counter()
    for name in FOLDERS:
        folders = [place / "prepared" / name for place in (work, alone)]
        assert digests(folders[0]) == digests(folders[1])
        ids += ids_in(folders[0])
    assert ids == Counter(f"class_{number % 2}/{number}.png" for number in range(1, IMAGES))
    for name in (DATASET_FILE, QUARANTINE_FILE, TRUTH_FILE):
        assert file_digest(work / "prepared" / name) == file_digest(alone / "prepared" / name)


def test_embed_survives_a_lost_node(cluster: LocalCluster, tmp_path: Path) -> None:
    prepared_stripes(tmp_path / "prepared", 220, images_per_shard=12)
    save_model(tmp_path / "model")
    images, out = tmp_path / "prepared" / "unlabeled", tmp_path / "work" / "features"
    driver = start_on(cluster, *PROGRAM, "embed", str(tmp_path), str(out))
    replace_a_node(cluster, driver, out.parent / "gate")
    alone = ShardEmbedder((tmp_path / "model",), images, tmp_path / "alone", batch_size=8)
    shards = alone.manifest.shards
    assert answer_of(driver, SECONDS) == {"embedded": len(shards)}
    for number, entry in enumerate(shards):
        alone(number)
        assert (out / entry.file).read_bytes() == (tmp_path / "alone" / entry.file).read_bytes()
    assert {path.name for path in out.iterdir()} == {entry.file for entry in shards}


def test_results_that_went_with_a_node_are_made_again(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    driver, last = start_on(cluster, *PROGRAM, "results", str(tmp_path)), 2 * ITEMS_PER_WORKER - 1
    wait_until(driver, lambda: any(tmp_path.glob(f"made-{last}-*")))
    (made,) = tmp_path.glob(f"made-{last}-*")
    next(node for node in cluster.workers if made.name.endswith(f"-{node.ip}")).kill()
    (tmp_path / "go").touch()
    assert answer_of(driver, SECONDS) == list(range(last + 1))
    assert len(list(tmp_path.glob(f"made-{last}-*"))) == 2
    cluster.add()


def test_tasks_that_can_come_to_no_end_end_the_run(cluster: LocalCluster) -> None:
    """Ray would do one that ends its process again for ever, and wait for ever for a CPU."""
    deadly, homeless = answer_of(start_on(cluster, *PROGRAM, "ended"), SECONDS)
    assert deadly.startswith("Ray lost a process (")
    assert " has no CPU for Ray, and work can't leave it; set storage.url, or " in homeless


def replace_a_node(cluster: LocalCluster, driver: subprocess.Popen[str], gate: Path) -> None:
    """Kill a node that waits at a gate with an item, which opens once another that joins has begun
    one."""
    at_work = [node for node in cluster.workers if node.processes()]
    wait_until(driver, lambda: any((gate / f"waits-{node.ip}").exists() for node in at_work))
    lost = next(node for node in at_work if (gate / f"waits-{node.ip}").exists())
    lost.kill()
    (gate / f"joined-{cluster.add().ip}").touch()


def digests(folder: Path) -> list[tuple[str, int, str]]:
    """Name, rows and SHA-256 of each shard."""
    return [(entry.file, entry.rows, entry.sha256) for entry in read_manifest(folder).shards]


def ids_in(folder: Path) -> Counter[str]:
    """How often each image is in a folder of shards."""
    return Counter(
        name for table in iter_shards(folder, ["id"]) for name in table["id"].to_pylist()
    )
