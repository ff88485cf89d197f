"""The instance of Ray that is kept for a `dvc repro`: whose it is, who uses it, when it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock

from pipeline.files import write_json
from pipeline.params import parse_params
from pipeline.runtime import ray_keeper
from pipeline.runtime.ray_kept import Kept, cpus_of, kept_by_repro, kept_ray
from pipeline.runtime.ray_session import ray_session

ROOT = Path(__file__).resolve().parents[2]
SLEEP = "import time; time.sleep(600)"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing, in the place of `dvc` or of Ray."""
    process = subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def kept_for(root: Path, process: subprocess.Popen[bytes]) -> Kept:
    """The files of the instance that belongs to `process`."""
    kept = Kept(root, process.pid, psutil.Process(process.pid).create_time())
    kept.folder.mkdir(parents=True)
    write_json(kept.facts, {"address": "none", "cpus": 1, "environment": {}})
    return kept


def test_a_stage_run_by_hand_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert kept_by_repro() is None
    with kept_ray(1) as address:
        assert address is None


def test_the_instance_is_that_of_the_dvc_above(tmp_path: Path) -> None:
    dvc = tmp_path / "dvc"
    show = "from pipeline.runtime.ray_kept import kept_by_repro as k; print(k() and k().pid)"
    dvc.write_text(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {show!r}])")

    def shown(**more: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(tmp_path)} | more
        answer = subprocess.Popen(
            [sys.executable, str(dvc)], env=environment, stdout=subprocess.PIPE, text=True
        )
        output = answer.communicate(timeout=60)[0].strip()
        return "its own" if output == str(answer.pid) else output

    assert shown() == "its own"
    assert shown(RAY_ADDRESS="127.0.0.1:1") == "None"


def test_as_many_cpus_as_the_greediest_stage_asks_for() -> None:
    entry = {"teacher": "0", "select": {}, "student": {}}
    many = {"train": {"workers": 4, "threads": 2}}
    data = {"source": "digits", "image_size": 8, "channels": 1}
    base: dict[str, Any] = {"data": data, "train": {"steps": 1}, "generations": {"1": entry}}
    assert cpus_of(parse_params(base | {"run": {"actors": [1, 5]}})) == 5
    taught = base | {"generations": {"1": entry | {"student": many}}}
    assert cpus_of(parse_params(taught | {"run": {"actors": 1}})) == 8


def test_it_stays_while_used_and_ends_with_its_dvc(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    dvc = subprocess.Popen([sys.executable, "-c", SLEEP])
    kept = kept_for(tmp_path, dvc)
    assert ray_keeper.runs(kept)
    with FileLock(kept.use):
        keeping = threading.Thread(target=ray_keeper.wait_until_unused, args=(kept, sleeper, 600.0))
        keeping.start()
        dvc.kill()  # not waited for yet: a zombie does not count as at work
        keeping.join(3 * ray_keeper.POLL_SECONDS)
        assert keeping.is_alive()
        assert kept.facts.exists()
    keeping.join(30)
    dvc.wait()
    assert not keeping.is_alive()
    assert not kept.facts.exists()
    assert not ray_keeper.runs(kept)


def test_it_ends_when_nobody_uses_it_for_long(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    kept = kept_for(tmp_path, sleeper)
    started = time.monotonic()
    ray_keeper.wait_until_unused(kept, sleeper, 0.7)
    assert time.monotonic() - started >= 0.7
    assert not kept.facts.exists()


def test_another_process_of_the_same_number_is_not_taken_for_dvc(tmp_path: Path) -> None:
    assert not ray_keeper.runs(Kept(tmp_path, os.getpid(), 1.0))


def test_ray_is_ended_at_once(sleeper: subprocess.Popen[bytes]) -> None:
    ray_keeper.end(sleeper)
    assert sleeper.poll() is not None


def test_the_token_is_private_and_the_users_own_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ray_keeper.AUTHENTICATION:
        monkeypatch.delenv(name, raising=False)
    kept = Kept(tmp_path, 1, 1.0)
    kept.folder.mkdir(parents=True)
    token = Path(ray_keeper.authentication(kept)["RAY_AUTH_TOKEN_PATH"])
    assert token.stat().st_mode & 0o077 == 0
    assert len(token.read_text()) == 64
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert ray_keeper.authentication(kept) == {}


def test_what_killed_keepers_left_is_removed(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone_folder, here = tmp_path / f"{gone.pid}-1", tmp_path / f"{sleeper.pid}-1"
    for folder in (gone_folder, here):
        folder.mkdir()
    gone.wait()
    ray_keeper.remove_stale(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [here.name]


def use_ray() -> None:
    """What a stage does: it says at which node it was."""
    with ray_session(1):
        import ray

        @ray.remote(num_cpus=1)
        def node() -> str:
            return str(ray.get_runtime_context().get_node_id())

        print(json.dumps(ray.get(node.remote())), flush=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_stages_of_one_repro_use_one_ray_that_ends_with_it(tmp_path: Path) -> None:
    dvc = tmp_path / "dvc"
    stage = "from tests.runtime.test_ray_kept import use_ray; use_ray()"
    command = f"[sys.executable, '-W', 'ignore', '-c', {stage!r}]"
    dvc.write_text(f"import subprocess, sys\nfor _ in range(2): subprocess.run({command})\n")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment |= {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(tmp_path)}
    answer = subprocess.run(
        [sys.executable, str(dvc)], env=environment, stdout=subprocess.PIPE, text=True, timeout=800
    )
    nodes = answer.stdout.split()
    assert len(nodes) == 2
    assert nodes[0] == nodes[1]
    until = time.monotonic() + 60
    while [path.name for path in (tmp_path / ".selftrain" / "ray").iterdir()] != ["keeper.log"]:
        assert time.monotonic() < until
        time.sleep(0.2)
