"""No preset rots: each parses whole, opens with what it is, and trains every generation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from pipeline.models.build import build_network
from pipeline.params import Params, load_params, parse_params
from pipeline.self_training.loop import Images, self_train
from tests.tiny import count_parameters

ROOT = Path(__file__).parents[1]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
SIDE, CLASSES, STEPS = 32, ("circle", "cross", "ring"), 2
SMALLEST = {"timm/resnet50": "timm/resnet18"}

presets = pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
classifying = pytest.mark.parametrize(
    "preset",
    [path for path in PRESETS if load_params(path).task == "classification"],
    ids=lambda path: path.stem,
)


def read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    return values


def shrunk(values: dict[str, Any]) -> Params:
    """The preset with two steps on a few small images, in this process, on the CPU.

    The network is the preset's own, but for the width of resnet_small, the smallest of the family
    of a large one, and the published stem, which is cheaper at 32 pixels than a small one.
    """
    here = {"workers": 0, "threads": 1, "device": "cpu"}
    values["data"]["image_size"] = SIDE
    name = values["model"]["name"]
    values["model"] |= {"name": SMALLEST.get(name, name), "width": 4, "stem": "standard"}
    values["train"] |= here | {"steps": STEPS, "batch_size": 2, "unlabeled_ratio": 1}
    values["select"]["confidence_threshold"] = 0.0  # untrained, a teacher is sure of nothing
    for section in ("predict", "evaluate"):
        values[section] |= {"jitter_views": 2, "threads": 1}
    values["predict"]["device"] = "cpu"
    if values["transfer"].get("mode") == "auto":
        values["transfer"]["trial_steps"] = STEPS
    if values["transfer"].get("source") == "timm":
        values[
            "transfer"
        ] = {}  # a hub is not reached: such networks start from random weights here
    generations = [entry["student"] for entry in values["generations"].values()]
    for overrides in (values.get("teacher", {}), *generations):
        overrides.get("train", {}).pop("steps", None)
    return parse_params(values)


def images(channels: int) -> Images:
    generator = torch.Generator().manual_seed(0)

    def some(count: int) -> torch.Tensor:
        shape = (count, channels, SIDE, SIDE)
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)

    labels = torch.arange(9) % len(CLASSES)
    return Images(some(9), labels, some(18), some(6), labels[:6], CLASSES)


def test_there_are_presets() -> None:
    assert {"cifar10", "digits_50", "folder_large", "folder_small", "photographs", "transfer"} <= {
        path.stem for path in PRESETS
    }


@presets
def test_a_preset_is_a_whole_file_of_parameters(preset: Path) -> None:
    load_params(preset)
    assert read(preset).keys() - {"task"} == read(ROOT / "params.yaml").keys()


@presets
def test_a_preset_opens_with_its_source_its_command_and_what_to_expect(preset: Path) -> None:
    lines = preset.read_text(encoding="utf-8").splitlines()
    body = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    opening = " ".join(line.removeprefix("#") for line in lines[:body])
    assert " et al. " in opening
    assert f"cp presets/{preset.name} params.yaml" in opening
    assert "Expected: " in opening


@presets
def test_a_control_has_as_many_steps_as_all_generations(preset: Path) -> None:
    params = load_params(preset)
    like = [control.like for control in params.controls.values()] or ["teacher"]
    longer = {"steps": params.all_steps, "like": like[0]}
    values = read(preset) | {"controls": {"longer": longer}}
    assert parse_params(values).training("0.longer").train.steps == params.all_steps
    assert {control.steps for control in params.controls.values()} <= {params.all_steps}
    said = re.search(r"longer: {steps: (\d+)[,}]", preset.read_text(encoding="utf-8"))
    assert said is not None
    assert int(said[1]) == params.all_steps


@presets
def test_the_largest_network_of_a_preset_builds_for_its_images(preset: Path) -> None:
    params = load_params(preset)
    options = params.training(params.model_keys[-1]).model.network
    options |= {"channels": params.data.channels, "image_size": params.data.image_size}
    network = build_network(options.pop("name"), num_classes=7, seed=0, **options)
    assert count_parameters(network) > 10_000


@classifying
def test_a_preset_trains_every_generation(preset: Path) -> None:
    params = shrunk(read(preset))
    results = self_train(images(params.data.channels), params)
    assert len(results) == 1 + len(params.generations)
    for result in results:
        assert result.log_probs.shape == (6, len(CLASSES))
        np.testing.assert_allclose(np.exp(result.log_probs).sum(axis=1), 1, rtol=1e-3)
