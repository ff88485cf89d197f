"""What a generation says of targets and thresholds replaces the shared; what can't go together."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pipeline.errors import ParameterError
from pipeline.params import parse_params
from tests.integration.project import SMALL


def _values() -> Any:
    return copy.deepcopy(SMALL)


def test_a_generation_s_fraction_replaces_a_shared_number_of_images() -> None:
    values = _values()
    values["select"] = {"images_per_class": 40}
    values["generations"]["1"]["select"] = {"fraction_per_class": 0.5}
    chosen = parse_params(values).selection("1")
    assert (chosen.images_per_class, chosen.fraction_per_class) == (None, 0.5)


def test_a_generation_s_number_of_images_replaces_a_shared_fraction() -> None:
    values = _values()
    values["generations"]["1"]["select"] = {"images_per_class": 7}
    chosen = parse_params(values).selection("1")
    assert (chosen.images_per_class, chosen.fraction_per_class) == (7, None)


def test_a_batch_that_the_workers_cannot_share_is_refused_before_any_work() -> None:
    values = _values()
    values["train"]["workers"] = 3
    with pytest.raises(ParameterError, match=r"train\.batch_size = 32: .*train\.workers = 3"):
        parse_params(values)


def test_thresholds_may_rise_or_fall_over_the_generations() -> None:
    values = _values()
    values["select"] = {"confidence_threshold": 0.5, "class_thresholds": {"3": 0.7}}
    values["generations"]["1"]["select"] = {"confidence_threshold": 0.9, "class_thresholds": {}}
    values["generations"]["2"]["select"] = {"class_thresholds": {"8": 0.4, "9": 0.2}}
    params = parse_params(values)
    first, second = params.selection("1"), params.selection("2")
    assert (first.confidence_threshold, second.confidence_threshold) == (0.9, 0.5)
    assert (first.class_thresholds, second.class_thresholds) == ({}, {"8": 0.4, "9": 0.2})
    assert params.select.class_thresholds == {"3": 0.7}


@pytest.mark.parametrize(
    ("select", "line"),
    [
        ({"class_thresholds": {"3": 1.5}}, "class_thresholds.3 = 1.5: "),
        ({"class_thresholds": {3: 0.5}}, 'class_thresholds.3: keys must be quoted strings: "3"'),
        ({"threshold_kind": "rising"}, "threshold_kind = 'rising': "),
        ({"distribution_alignment": True}, "distribution_alignment = True: "),
    ],
)
def test_a_wrong_rule_of_a_generation_is_named(select: dict[Any, Any], line: str) -> None:
    values = _values()
    values["generations"]["2"]["select"] = select
    with pytest.raises(ParameterError) as caught:
        parse_params(values)
    assert f"generations.2.select.{line}" in str(caught.value)


@pytest.mark.parametrize(
    ("seeds", "line"),
    [
        (
            {"1": {"generation": "2", "teacher": "1"}},
            'seeds.1: keys are the generation and a number that counts up, "2.1" goes here',
        ),
        ({"2.2": {"generation": "2", "teacher": "1"}}, "seeds.2.2: keys are the generation"),
        (
            {"0.1": {"generation": "0", "teacher": "0"}},
            "seeds.0.1.generation = '0': must be one of",
        ),
        (
            {"2.1": {"generation": "2", "teacher": "0"}},
            "seeds.2.1.teacher = '0': must be the teacher",
        ),
        ({"2.1": {"generation": "2"}}, "seeds.2.1.teacher is missing"),
    ],
)
def test_a_wrong_seed_of_the_ensemble_is_named(seeds: dict[Any, Any], line: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_params(_values() | {"ensemble": {"seeds": seeds}})
    assert f"ensemble.{line}" in str(caught.value)


def test_models_of_other_seeds_are_named_and_seeded_after_their_number() -> None:
    seeds = {"2.1": {"generation": "2", "teacher": "1"}, "1.2": {"generation": "1", "teacher": "0"}}
    params = parse_params(_values() | {"ensemble": {"seeds": seeds}})
    assert params.seed_keys == ["2.1", "1.2"]
    drawn = [params.model_seed(key) for key in ("0", "2", "2.1", "1.2")]
    assert drawn[:2] == [params.seed] * 2
    assert len(set(drawn)) == 3
    other = parse_params(_values() | {"ensemble": {"seeds": seeds}, "seed": params.seed + 1})
    assert other.model_seed("2.1") not in drawn


def test_a_control_is_generation_0_with_its_own_steps() -> None:
    values = _values() | {"controls": {"longer": {"steps": 77}}}
    params = parse_params(values)
    assert params.all_models == [*params.ensemble_keys, "0.longer"]
    first, control = params.training("0"), params.training("0.longer")
    assert control.train == first.train.model_copy(update={"steps": 77})
    assert (control.model, control.augment) == (first.model, first.augment)
    assert params.model_seed("0.longer") == params.seed
    assert params.all_steps == sum(params.training(key).train.steps for key in params.model_keys)


@pytest.mark.parametrize(
    ("controls", "line"),
    [
        ({"1": {"steps": 7}}, "controls.1: names begin with a small letter"),
        ({"a/b": {"steps": 7}}, "controls.a/b: names begin with a small letter"),
        ({"longer": {}}, "controls.longer.steps is missing"),
        ({"longer": {"steps": 0}}, "controls.longer.steps = 0"),
    ],
)
def test_a_wrong_control_is_named(controls: dict[str, Any], line: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_params(_values() | {"controls": controls})
    assert line in str(caught.value)


def test_a_greedy_ensemble_needs_validation_images() -> None:
    values = _values() | {"ensemble": {"method": "greedy"}}
    assert parse_params(values).ensemble.method == "greedy"
    values["data"]["validation_fraction"] = 0.0
    with pytest.raises(ParameterError, match=r"ensemble\.method = greedy.*validation_fraction = 0"):
        parse_params(values)
