import json
from typing import Any

import numpy as np
import pytest

from pipeline.evaluate.ensemble import average_log_probs, weighted_log_probs
from pipeline.evaluate.ensemble_result import EnsembleResult, judge_ensemble
from pipeline.evaluate.metrics import accuracy
from pipeline.evaluate.result import evaluate, evaluation_from_json
from pipeline.evaluate.run import ModelResult
from tests.evaluate.test_ensemble import voters

SKILLS = (-1.0, 1.5, 2.5)


def results(validation: bool = True) -> dict[str, ModelResult]:
    test, labels = voters(SKILLS, 300, 0)
    checked, their_labels = voters(SKILLS, 120, 1)
    return {
        key: ModelResult(
            test=evaluate(test[key], labels),
            centre=evaluate(test[key], labels),
            validation=evaluate(checked[key], their_labels) if validation else None,
            test_log_probs=test[key],
            test_labels=labels,
            validation_log_probs=checked[key] if validation else checked[key][:0],
            validation_labels=their_labels if validation else their_labels[:0],
        )
        for key in test
    }


def together(method: str, **changes: Any) -> EnsembleResult:
    made = results(**changes)
    return judge_ensemble(made, method, generations=list(made), interval=0.95)


def test_equal_weights_average_all() -> None:
    made, found = results(), together("equal")
    assert found.weights == pytest.approx({"0": 1 / 3, "1": 1 / 3, "2": 1 / 3})
    average = average_log_probs([result.test_log_probs for result in made.values()])
    assert found.test is not None
    assert found.test.accuracy == accuracy(average, made["0"].test_labels)
    assert found.metrics["test/accuracy"] == found.test.accuracy
    assert "val/accuracy" in found.metrics


def test_greedy_weights_are_chosen_on_validation_and_measured_on_test() -> None:
    made, found = results(), together("greedy")
    assert found.weights["0"] == 0
    assert "0" not in found.members
    mixed = weighted_log_probs({k: r.test_log_probs for k, r in made.items()}, found.weights)
    assert found.test is not None
    assert found.test.accuracy == accuracy(mixed, made["0"].test_labels)


def test_none_leaves_the_champion_alone() -> None:
    found = together("none")
    assert (found.champion, found.test, found.metrics) == ("2", None, {})
    assert found.members == {"2": 1.0}
    assert found.to_json()["test"] is None


def test_without_validation_images_greedy_is_equal_and_the_last_is_champion() -> None:
    found = together("greedy", validation=False)
    assert set(found.weights.values()) == {1 / 3}
    assert found.champion == "2"
    assert "no validation images" in found.champion_reason
    assert "val/accuracy" not in found.metrics


def test_it_is_plain_json() -> None:
    found = together("equal")
    value = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert evaluation_from_json(value["test"]) == found.test
    assert (value["champion"], value["weights"]) == (found.champion, found.weights)


def test_the_champion_is_that_of_the_validation_images() -> None:
    made = results()
    swapped = {"0": made["2"], "1": made["1"], "2": made["0"]}
    found = judge_ensemble(swapped, "equal", generations=list("012"), interval=0.95)
    assert found.champion == "0"
    assert np.isfinite(list(found.metrics.values())).all()


def test_a_student_of_another_seed_is_in_the_ensemble_but_no_champion() -> None:
    made = results()
    renamed = {"0": made["0"], "1": made["1"], "1.1": made["2"]}
    found = judge_ensemble(renamed, "greedy", generations=["0", "1"], interval=0.95)
    assert found.champion == "1"
    assert found.members["1.1"] > 0
