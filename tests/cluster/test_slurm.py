"""The Slurm script: sound bash, and with a pretended Slurm a real cluster and its end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "cluster" / "definitions" / "slurm.sh"
BIN = Path(sys.executable).parent
JOB = "7"
SRUN = """#!/usr/bin/env bash
# srun, where every node is this machine: the command becomes this process.
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
[[ $1 == show && $2 == hostnames ]] || exit 1
tr , '\\n' <<< "$3"
"""
# What runs on the cluster: a task on each node, and a sign that it is up.
COMMAND = """
import os, pathlib, time
import ray
ray.init(log_to_driver=False, logging_level="ERROR")

@ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
def node():
    time.sleep(2)
    return ray.get_runtime_context().get_node_id()

nodes = {*ray.get([node.remote() for _ in range(2)])}
pathlib.Path("unready").write_text(f"{len(nodes)} {os.environ['RAY_AUTH_MODE']}")
os.replace("unready", "answer")
time.sleep(600)
"""


def free_ports(count: int = 3) -> int:
    """A port that is free, as are the next ones."""
    while True:
        with ExitStack() as held, suppress(OSError, OverflowError):
            port = 0
            for number in range(count):
                probe = held.enter_context(socket.socket())
                probe.bind(("127.0.0.1", port + number if port else 0))
                port = port or probe.getsockname()[1]
            return port


@dataclass(frozen=True)
class Slurm:
    """A folder that a job is submitted from, and what the job sees of Slurm."""

    folder: Path
    local: Path

    def sbatch(self, *command: str, nodes: str = "a,b", **extra: str) -> subprocess.Popen[str]:
        """Run the script as the batch step of a job on these nodes."""
        environment = os.environ | {
            "PATH": os.pathsep.join([str(self.folder / "slurm"), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT),
            "SLURM_JOB_ID": JOB,
            "SLURM_JOB_NODELIST": nodes,
            "SLURM_SUBMIT_DIR": str(self.folder),
            "SLURM_CPUS_PER_TASK": "1",
            "SELFTRAIN_VENV": str(BIN.parent),
            "SELFTRAIN_LOCAL": str(self.local),
            "SELFTRAIN_HEAD_IP": "127.0.0.1",
            "SELFTRAIN_PORT": str(free_ports()),
            "SELFTRAIN_WAIT": "120",
            "RAY_BACKEND_LOG_LEVEL": "fatal",
        }
        for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            environment.pop(name, None)
        return subprocess.Popen(
            ["bash", str(SCRIPT), *command],
            env=environment | extra,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def logs(self) -> str:
        """What Ray said on each node."""
        files = sorted((self.folder / ".selftrain" / f"slurm-{JOB}").glob("*.log"))
        return "\n".join(f"{file.name}:\n{file.read_text()[-3000:]}" for file in files)

    def leftovers(self) -> list[str]:
        """Processes that still name this job's folder for Ray."""
        return [
            " ".join(process.info["cmdline"])[:200]
            for process in psutil.process_iter(["cmdline"])
            if str(self.local) in " ".join(process.info["cmdline"] or [])
        ]


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Slurm]:
    pretended = tmp_path / "slurm"
    pretended.mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (pretended / name).write_text(text, encoding="utf-8")
        (pretended / name).chmod(0o755)
    (tmp_path / "command.py").write_text(COMMAND, encoding="utf-8")
    local = Path(tempfile.mkdtemp(prefix="st", dir="/tmp"))  # short: sockets lie in it
    job = Slurm(tmp_path, local)
    yield job
    for process in psutil.process_iter(["cmdline"]):
        if str(local) in " ".join(process.info["cmdline"] or []):
            with suppress(psutil.NoSuchProcess):
                process.kill()
    shutil.rmtree(local)


def until(true: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def test_it_is_sound_bash() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    shellcheck = BIN / "shellcheck"
    answer = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout
    assert SCRIPT.stat().st_mode & stat.S_IXUSR


def test_slurm_reads_its_options_before_the_first_command() -> None:
    lines = SCRIPT.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    options = [number for number, line in enumerate(lines) if line.startswith("#SBATCH ")]
    assert len(options) >= 8
    assert max(options) < first


@pytest.fixture
def pretended_ray(slurm: Slurm) -> dict[str, str]:
    """A Ray that sleeps and nodes that have all joined, for what the script itself does."""
    binaries = slurm.folder / "venv" / "bin"
    binaries.mkdir(parents=True)
    joined = "[" + '{"node_id": "x"}, ' * 3 + "]"  # as Ray says it, on one line
    ray = (
        f"#!/bin/bash\nif [[ $1 = list ]]; then sleep 1; printf '{joined}'; exit; fi\n"
        '[[ $RAY_ENDS ]] && exit 4\necho "$@"; exec sleep 600\n'
    )
    programs = {
        "ray": ray,
        "selftrain": '#!/bin/bash\necho "selftrain $*"\n',
    }
    for name, text in programs.items():
        (binaries / name).write_text(text, encoding="utf-8")
        (binaries / name).chmod(0o755)
    return {"SELFTRAIN_VENV": str(binaries.parent)}


def test_the_command_s_exit_code_is_the_job_s(slurm: Slurm, pretended_ray: dict[str, str]) -> None:
    job = slurm.sbatch("bash", "-c", "exit 3", **pretended_ray)
    output, _ = job.communicate(timeout=30)
    assert job.returncode == 3, output
    assert slurm.leftovers() == []
    assert list(slurm.local.iterdir()) == []


def test_without_a_command_it_runs_the_pipeline(
    slurm: Slurm, pretended_ray: dict[str, str]
) -> None:
    output, _ = slurm.sbatch(**pretended_ray).communicate(timeout=30)
    assert "selftrain run\n" in output


def test_workers_join_the_head_each_with_its_own_folder(
    slurm: Slurm, pretended_ray: dict[str, str]
) -> None:
    slurm.sbatch("true", nodes="a,b,c", **pretended_ray).communicate(timeout=30)
    logs = slurm.folder / ".selftrain" / f"slurm-{JOB}"
    starts = [(logs / name).read_text() for name in ("0-a.log", "1-b.log", "2-c.log")]
    assert ["--head" in start for start in starts] == [True, False, False]
    assert all("--address=127.0.0.1:" in start for start in starts[1:])
    assert len({start.split("--temp-dir=")[1].split()[0] for start in starts}) == 3


def test_a_node_that_ends_early_ends_the_job(slurm: Slurm, pretended_ray: dict[str, str]) -> None:
    job = slurm.sbatch("true", RAY_ENDS="yes", **pretended_ray)
    output, _ = job.communicate(timeout=30)
    assert job.returncode == 1
    assert "Ray did not start on every node" in output


def test_a_folder_without_its_environment_is_refused(slurm: Slurm) -> None:
    job = slurm.sbatch("true", SELFTRAIN_VENV=".venv")
    output, _ = job.communicate(timeout=30)
    assert job.returncode == 1
    assert output.startswith("slurm.sh: no .venv/bin/ray in ")


def running(slurm: Slurm, attempts: int = 3) -> subprocess.Popen[str]:
    """A job that is past its start; again where Ray's 30 s for a node's start were too few here."""
    answer = slurm.folder / "answer"
    job = slurm.sbatch("python", "command.py")
    until(lambda: answer.exists() or job.poll() is not None, 200)
    if answer.exists() and job.poll() is None:
        return job
    job.terminate()
    output, said = job.communicate(timeout=90)[0], slurm.logs()
    assert attempts > 1, output + said
    assert "timed out during startup" in said, output + said
    shutil.rmtree(slurm.folder / ".selftrain")
    return running(slurm, attempts - 1)


@pytest.mark.slow
@pytest.mark.nodes
def test_a_real_cluster_runs_a_command_and_ends_when_its_time_is_up(slurm: Slurm) -> None:
    job = running(slurm)
    assert (slurm.folder / "answer").read_text() == "2 token"
    kept = slurm.folder / ".selftrain" / f"slurm-{JOB}"
    token = kept / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert len(token.read_text()) == 64
    assert slurm.leftovers()
    job.send_signal(signal.SIGTERM)
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 143, output
    assert "2 nodes at 127.0.0.1:" in output
    assert until(lambda: not slurm.leftovers(), 20), slurm.leftovers()
    assert list(slurm.local.iterdir()) == []
    assert sorted(path.name for path in kept.iterdir()) == ["0-a", "0-a.log", "1-b", "1-b.log"]
    assert (kept / "0-a" / "gcs_server.out").exists()
