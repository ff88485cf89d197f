"""A stage that trains is asked to end: it saves after its step, and goes on to the same bytes."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.chaos.stages import SMALL, contents, make_project
from benchmarks.runs import ROOT
from pipeline.runtime.stop import SIGNALS
from pipeline.train.state import STATE
from tests.integration.project import YAML_FILE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def parameters(**train: Any) -> Any:
    values = copy.deepcopy(SMALL)
    values["train"] |= {"steps": 120, "checkpoint_minutes": 60.0} | train
    values["augment"]["search"] = None
    return values


def start(stage: str, folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for name in ("DVC_ROOT", "RAY_ADDRESS"):
        environment.pop(name, None)
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(stage: str, folder: Path) -> str:
    process = start(stage, folder)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return said


def logged_steps(folder: Path) -> list[int]:
    lines = [
        line
        for path in folder.glob(".selftrain/scratch/train_teacher-*/history.jsonl")
        for line in path.read_text().splitlines()
    ]
    return [json.loads(line)["step"] for line in lines]


@pytest.mark.parametrize("number", SIGNALS)
def test_it_goes_on_to_the_same_bytes(tmp_path: Path, number: signal.Signals) -> None:
    folders = [tmp_path / name for name in ("whole", "stopped")]
    for folder in folders:
        make_project(folder)
        YAML_FILE.dump(parameters(), folder / "params.yaml")
        run("prepare", folder)
        run("search_augment", folder)
    whole, stopped = folders
    run("train_teacher", whole)
    process = start("train_teacher", stopped)
    while not logged_steps(stopped):
        assert process.poll() is None
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "train_teacher: interrupted; a rerun goes on from here" in said
    assert "Traceback" not in said
    assert not [child for child in children if child.is_running()]
    assert len(list(stopped.glob(f".selftrain/scratch/train_teacher-*/{STATE}"))) == 1
    assert max(logged_steps(stopped)) < 120
    run("train_teacher", stopped)
    assert contents(stopped) == contents(whole)
    steps = logged_steps(stopped)  # the finished scratch folder stays until the next stage
    assert steps.count(120) == 2  # losses and validation
    assert len(steps) == len(logged_steps(whole))  # none was trained again
