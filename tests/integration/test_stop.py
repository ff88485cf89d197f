"""A stage that trains is asked to end: it saves after its step, and goes on to the same bytes."""

from __future__ import annotations

import copy
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from benchmarks.small_run import SMALL, contents, make_project
from pipeline.train.state import STATE
from pipeline.workflow.stop import SIGNALS
from tests.integration.by_hand import descendants, left_of, logged_steps, run, start, wait_until
from tests.integration.project import YAML_FILE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def parameters(**train: Any) -> Any:
    values = copy.deepcopy(SMALL)
    values["train"] |= {"steps": 120} | train
    values["run"] = {"checkpoint_minutes": 60.0}
    values["augment"]["search"] = None
    return values


@pytest.mark.parametrize("number", SIGNALS)
def test_it_goes_on_to_the_same_bytes(tmp_path: Path, number: signal.Signals) -> None:
    folders = [tmp_path / name for name in ("whole", "stopped")]
    for folder in folders:
        make_project(folder)
        YAML_FILE.dump(parameters(), folder / "params.yaml")
        run("prepare", folder)
        run("search", folder)
    whole, stopped = folders
    run("train_teacher", whole)
    process = start("train_teacher", stopped)
    wait_until(lambda: bool(logged_steps(stopped)), process)
    children = descendants(process)
    os.killpg(process.pid, number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "train_teacher: interrupted; a rerun goes on from here" in said
    assert "Traceback" not in said
    assert not left_of(children)
    assert len(list(stopped.glob(f".selftrain/scratch/train_teacher-*/{STATE}"))) == 1
    assert max(logged_steps(stopped)) < 120
    run("train_teacher", stopped)
    assert contents(stopped) == contents(whole)
    steps = logged_steps(stopped)  # the finished scratch folder stays until the next stage
    assert steps.count(120) == 2  # losses and validation
    assert len(steps) == len(logged_steps(whole))  # none was trained again
