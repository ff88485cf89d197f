"""Every augmentation switched on, and a search for its strength, through DVC for a few steps."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, get_args

import pytest

from pipeline.params import Operation
from tests.integration.project import SMALL, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SEARCH = {"num_ops": [1, 3], "magnitude": [9.0], "steps": 4, "seeds": 2}
EVERYTHING: dict[str, Any] = {
    "crop": "resized",
    "crop_area": [0.6, 1.0],
    "magnitude_std": 1.0,
    "cutout": 0.2,
    "erasing": 0.5,
    "mix": "both",
    "mix_alpha": 0.5,
    "operations": list(get_args(Operation)),
    "search": SEARCH,
}


def test_a_search_and_all_augmentations_run_through_the_stages(tmp_path: Path) -> None:
    values = copy.deepcopy(SMALL)
    values["augment"] = EVERYTHING
    values["train"] |= {"steps": 6, "log_every": 2}
    values["generations"] = {}
    project = copy_project(tmp_path / "project", values)
    assert project.repro("train_teacher") == ["prepare", "embed", "search", "train_teacher"]
    policy, metrics = project.json("choices.json"), project.json("metrics/search.json")
    pairs = [(trial["num_ops"], trial["magnitude"]) for trial in policy["trials"]]
    assert pairs == [(1, 9.0), (3, 9.0)]
    best = max(policy["trials"], key=lambda trial: (trial["accuracy"], -trial["nll"]))
    for found in (policy, metrics):
        assert (found["num_ops"], found["magnitude"]) == (best["num_ops"], best["magnitude"])
    assert metrics[f"val/accuracy/{best['num_ops']}_ops_at_9"] == best["accuracy"]
    curve = (project.folder / "curves/0/loss.csv").read_text().splitlines()
    assert len(curve) == 4
    assert not list((project.folder / ".selftrain/scratch").glob("search-*"))
    # Switched off, it writes down what the parameters say.
    values["augment"] = EVERYTHING | {"num_ops": 1, "search": None}
    project.set_parameters(values)
    assert project.repro("search") == ["search"]
    off = project.json("choices.json")
    assert off == {"num_ops": 1, "magnitude": 10.0, "searched": False, "trials": [], "mode": None}
