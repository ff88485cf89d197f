"""Nodes on this machine: apart from each other, behind a token, and gone when they should be."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.connect import follow, open_client, start
from cluster.local import LocalCluster, local_cluster
from tests.cluster.programs import answer_of, start_on

NODES = """
import json, ray
ray.init(log_to_driver=False, logging_level="ERROR")
@ray.remote(num_cpus=1)
def where():
    import time
    time.sleep(0.5)
    return ray.util.get_node_ip_address()
alive = sorted(n["NodeManagerAddress"] for n in ray.nodes() if n["Alive"])
seen = sorted(set(ray.get([where.remote() for _ in range(6)])))
print(json.dumps({"alive": alive, "seen": seen, "stores": len({
    n["ObjectStoreSocketName"] for n in ray.nodes()})}))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster(2) as running:
        yield running


@pytest.mark.slow
@pytest.mark.nodes
def test_the_nodes_have_addresses_and_stores_of_their_own(cluster: LocalCluster) -> None:
    answer = answer_of(start_on(cluster, "-c", NODES))
    addresses = sorted(node.ip for node in cluster.nodes)
    assert len(set(addresses)) == 3
    assert answer == {"alive": addresses, "seen": addresses, "stores": 3}


@pytest.mark.slow
@pytest.mark.nodes
def test_a_job_keeps_its_folder_while_other_nodes_unpack_it(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    (tmp_path / "job.py").write_text(NODES + "import os; print('in', os.getcwd())\n")
    client = open_client(cluster.dashboard)
    job = start(client, entrypoint="python job.py", runtime_env={"working_dir": str(tmp_path)})
    said: list[str] = []
    ended = asyncio.run(follow(client, job, said.append))
    assert ended.status.value == "SUCCEEDED", "".join(said)
    assert f'"seen": {json.dumps(sorted(node.ip for node in cluster.nodes))}' in "".join(said)


@pytest.mark.slow
@pytest.mark.nodes
def test_no_one_gets_in_without_the_token(cluster: LocalCluster) -> None:
    code = "import ray; ray.init(log_to_driver=False)"
    driver = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | cluster.environment | {"RAY_AUTH_TOKEN": "0" * 64},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert driver.returncode != 0
    assert "token" in driver.stderr.lower()


@pytest.mark.slow
@pytest.mark.nodes
def test_a_killed_node_is_gone_and_another_can_come(cluster: LocalCluster) -> None:
    lost = cluster.workers[0]
    lost.kill()
    assert lost.processes() == []
    assert cluster.workers[1].processes()
    added = cluster.add()
    assert added.ip not in {lost.ip, cluster.workers[1].ip}
    assert added.processes()


@pytest.mark.slow
@pytest.mark.nodes
def test_nothing_is_left_of_a_cluster_that_was_kept_up() -> None:
    command = [sys.executable, "-m", "cluster.local", "--workers", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as kept:
        assert kept.stdout is not None
        first = kept.stdout.readline()
        nodes = psutil.Process(kept.pid).children(recursive=True)
        kept.terminate()
        rest = kept.stdout.read()
        assert kept.wait(30) == 0
    assert first.startswith("Ray 127.")
    assert "selftrain submit --address http://127.0.0.1:" in rest
    assert rest.splitlines()[-1] == "stopped"
    assert len(nodes) > 2
    alive = [node for node in nodes if node.is_running()]  # or not yet reaped by init
    assert {node.status() for node in alive} <= {psutil.STATUS_ZOMBIE}


def test_a_wrong_number_of_nodes_is_refused() -> None:
    command = [sys.executable, "-m", "cluster.local", "--workers", "-1"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "at least 0" in answer.stderr
