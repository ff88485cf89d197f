"""Images with masks from end to end: through DVC, and with stages that are killed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.small_run import contents, make_project
from pipeline.train.state import STATE
from tests.integration.by_hand import run, start, wait_until
from tests.integration.project import ROOT, YAML_FILE, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

OF_STAGES = ("prepared/", "models/", "predictions/", "pseudo_labels/", "metrics/", "report/")
SIDE = 24


def draw_scenes(folder: Path) -> None:
    """Noisy images of a disc or a bar; the first 24 of 64 have masks."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.txt").write_text("ground\ndisc\nbar\n")
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for number in range(64):
        at = 6 + number % 12
        disc = (rows - 12) ** 2 + (columns - at) ** 2 < 25
        mask = np.where(disc, 1, 0) if number % 2 else np.where(abs(columns - at) < 3, 2, 0)
        noise = np.random.default_rng(number).integers(0, 80, (SIDE, SIDE), np.uint8)
        Image.fromarray((noise + 80 * mask).astype(np.uint8)).save(folder / f"images/{number}.png")
        if number < 24:
            Image.fromarray(mask.astype(np.uint8)).save(folder / f"masks/{number}.png")


def parameters() -> Any:
    values = YAML_FILE.load((ROOT / "presets/digit_scenes_segmentation.yaml").read_text())
    values["data"] = {"source": "masks", "path": "scenes", "image_size": SIDE, "channels": 1}
    values["data"] |= {"images_per_shard": 8, "validation_fraction": 0.2, "test_fraction": 0.3}
    values["data"]["near_duplicate_distance"] = 0.0
    values["model"] = {"name": "unet_small", "width": 4}
    values["train"] |= {"steps": 12, "batch_size": 4, "threads": 1, "log_every": 2}
    values["run"] = {"checkpoint_minutes": 0.000001}
    values["evaluate"] |= {"threads": 1, "bootstrap_samples": 100}
    values["controls"] = {}
    student = values["generations"]["1"]["student"]
    values["generations"] = {"1": {"teacher": "0", "select": {}, "student": student}}
    student.get("train", {}).pop("steps", None)
    return values


def kill_when(seen: Callable[[], bool], folder: Path, stage: str) -> None:
    """Start a stage of generation 1, end it as soon as something is seen, and run it again."""
    process = start(stage, folder, "--generation", "1")
    wait_until(seen, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    run(stage, folder, "--generation", "1")


def test_killed_stages_go_on_to_the_bytes_of_a_whole_run(tmp_path: Path) -> None:
    project, killed = copy_project(tmp_path / "whole", parameters()), tmp_path / "killed"
    make_project(killed)
    YAML_FILE.dump(parameters(), killed / "params.yaml")
    for folder in (project.folder, killed):
        draw_scenes(folder / "scenes")
    ran = project.repro()
    assert ran[-1] == "report"
    page = (project.folder / "report/index.html").read_text(encoding="utf-8")
    assert "mean IoU" in page
    assert project.json("metrics/evaluate/1.json")["test/miou"] > 1 / 3
    assert project.repro() == []

    scratch = killed / ".selftrain/scratch"
    for stage in ("prepare", "embed", "search", "train_teacher"):
        run(stage, killed)
    predicted = "pseudo_label@1-*/predictions/*.parquet"
    kill_when(lambda: bool(list(scratch.glob(predicted))), killed, "pseudo_label")
    run("select", killed, "--generation", "1")
    kill_when(
        lambda: bool(list(scratch.glob(f"train_student@1-*/{STATE}"))), killed, "train_student"
    )
    whole = contents(project.folder)
    again = contents(killed)
    common = [name for name in again if name.startswith(OF_STAGES)]
    assert {name.partition("/")[0] + "/" for name in common} >= set(OF_STAGES[:4])
    assert [name for name in common if again[name] != whole[name]] == []
