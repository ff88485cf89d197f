"""What a run will take is measured by real steps, and added up part by part."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from pipeline.data.preparation.inspection import Inspection
from pipeline.params import Params, parse_params
from pipeline.workflow.estimate import Rates, estimate_seconds, in_words, measure_rates

PRESET = Path(__file__).parents[2] / "presets" / "photographs.yaml"


def photographs(input_size: int = 128) -> Params:
    values = YAML(typ="safe", pure=True).load(PRESET.read_text(encoding="utf-8"))
    values["embed"] |= {"input_size": input_size}
    values["model"] |= {"input_size": 32}
    values["train"] |= {"batch_size": 2, "threads": 1, "device": "cpu"}
    values["predict"]["device"] = "cpu"
    values["run"]["actors"] = 1
    return parse_params(values)


def test_a_part_is_its_images_or_steps_times_their_rate() -> None:
    params = photographs()
    found = Inspection(["a", "b"], Counter(a=30, b=30), Counter(a=40), unlabeled=900, decoded=500)
    parts = estimate_seconds(params, found, Rates(embed=0.1, step=0.5), looked=5.0)
    assert parts["prepare"] == pytest.approx(2 * 5.0 * 1000 / 500)
    assert parts["features"] == pytest.approx(1000 * 0.1)
    assert parts["trial"] == pytest.approx(3 * params.transfer.trial_steps * 0.5)
    assert parts["students"] == parts["control"] == pytest.approx(600 * 0.5)
    # Generation 2, a network, teaches 3; both and the control see labelled and test images.
    assert parts["predictions"] == pytest.approx((900 + 3 * 100) * 0.1)
    assert parts["starting stages"] > 60


def test_more_pixels_take_longer_and_nothing_of_torch_is_left_changed() -> None:
    before = torch.get_num_threads()
    small, large = (measure_rates(photographs(side)) for side in (32, 256))
    assert 0 < small.embed < large.embed
    assert small.step > 0
    assert torch.get_num_threads() == before


def test_in_words_the_longest_part_comes_first() -> None:
    assert in_words({"a": 20.0, "b": 120.0, "c": 600.0}) == "about 12 minutes (c 10, b 2)"
    assert in_words({"a": 2.0}) == "about 1 minute"
