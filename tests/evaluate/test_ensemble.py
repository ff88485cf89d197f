import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.evaluate.ensemble import (
    EnsembleResult,
    greedy_weights,
    judge_ensemble,
)
from pipeline.evaluate.result import ModelResult, evaluate, evaluation_from_json
from pipeline.tasks import open_task
from pipeline.tasks.averages import add_member, average_log_probs, weighted_log_probs
from pipeline.tasks.metrics import correct

TASK = open_task("classification")


def members(count: int = 3) -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    return [
        np.log(generator.dirichlet(np.ones(4), size=6)).astype(np.float32) for _ in range(count)
    ]


def test_average_is_the_mean_of_probabilities() -> None:
    parts = members()
    expected = np.log(np.mean([np.exp(part) for part in parts], axis=0))
    np.testing.assert_allclose(average_log_probs(parts), expected, rtol=1e-5)


def test_growing_one_by_one_gives_the_same() -> None:
    parts = members(4)
    grown = parts[0]
    for count, part in enumerate(parts[1:], start=1):
        grown = add_member(grown, count, part)
    np.testing.assert_array_equal(grown, average_log_probs(parts))
    assert grown.dtype == np.float32


def test_one_member_is_itself() -> None:
    np.testing.assert_array_equal(average_log_probs(members(1)), members(1)[0])


def test_members_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="at least one"):
        average_log_probs([])
    with pytest.raises(DataError, match="same images and classes"):
        average_log_probs([np.zeros((2, 3)), np.zeros((3, 3))])


def test_weights_are_those_of_the_probabilities() -> None:
    parts = {str(place): part for place, part in enumerate(members(3))}
    weights = {"0": 0.5, "1": 0.0, "2": 0.25, "3": 0.25}
    named = parts | {"3": parts["2"] * 0.9}
    expected = sum(weights[key] * np.exp(part) for key, part in named.items())
    np.testing.assert_allclose(np.exp(weighted_log_probs(named, weights)), expected, rtol=1e-5)
    equal = weighted_log_probs(parts, dict.fromkeys(parts, 1 / len(parts)))
    np.testing.assert_array_equal(equal, average_log_probs(list(parts.values())))
    assert weighted_log_probs(parts, {"1": 1.0}) is parts["1"]
    with pytest.raises(DataError, match="same images and classes"):
        weighted_log_probs({"0": np.zeros((2, 3)), "1": np.zeros((3, 3))}, {"0": 0.7, "1": 0.3})


def voters(skills: tuple[float, ...], images: int, seed: int) -> tuple[dict[str, Any], Any]:
    """Models of these skills that err in part on the same images, and the labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, images)
    common = generator.normal(size=(images, 4))
    made = {}
    for place, skill in enumerate(skills):
        logits = common + generator.normal(size=(images, 4))
        logits[np.arange(images), labels] += skill
        made[str(place)] = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return made, labels


def slow_greedy(parts: dict[str, Any], labels: Any, rounds: int) -> dict[str, float]:
    """Caruana's selection with plain probabilities, a bag of names that grows by one a round."""

    def score(bag: list[str]) -> tuple[int, float]:
        mean = sum(np.exp(parts[name]) for name in bag) / len(bag)
        own = mean[np.arange(len(labels)), labels]
        wrong = int((mean.argmax(axis=1) != labels).sum())
        return wrong, round(float(-np.log(own).mean()), 6)

    bags: list[list[str]] = [[]]
    for _ in range(rounds):
        best = None
        for name in sorted(parts, key=lambda name: (name not in bags[-1], -int(name))):
            value = score([*bags[-1], name])
            if best is None or value < best[0]:
                best = value, name
        assert best is not None
        bags.append([*bags[-1], best[1]])
    bag = min(bags[1:], key=lambda bag: (score(bag), len(set(bag))))
    return {name: bag.count(name) / len(bag) for name in parts}


@pytest.mark.parametrize("seed", range(6))
def test_greedy_weights_are_those_of_a_slow_selection(seed: int) -> None:
    parts, labels = voters((0.5, 2.0, 2.2, 2.1), 80, seed)
    weights = greedy_weights(TASK, parts, labels, 4, rounds=8)
    assert weights == pytest.approx(slow_greedy(parts, labels, rounds=8))
    assert sum(weights.values()) == pytest.approx(1)


def test_of_equal_members_greedy_takes_the_latest_alone() -> None:
    part = members(1)[0]
    labels = part.argmax(axis=1)
    assert greedy_weights(TASK, {"0": part, "1": part.copy()}, labels, 4) == {"0": 0.0, "1": 1.0}


def test_greedy_leaves_a_useless_member_out_and_is_never_worse_where_it_chose() -> None:
    parts, labels = voters((-1.0, 2.0, 2.2), 200, 0)
    weights = greedy_weights(TASK, parts, labels, 4)
    assert weights["0"] == 0
    equal = correct(average_log_probs(list(parts.values())), labels).mean()
    assert correct(weighted_log_probs(parts, weights), labels).mean() >= equal


SKILLS = (-1.0, 1.5, 2.5)


def results(validation: bool = True) -> dict[str, ModelResult]:
    test, labels = voters(SKILLS, 300, 0)
    checked, their_labels = voters(SKILLS, 120, 1)
    return {
        key: ModelResult(
            test=evaluate(TASK, test[key], labels, 4),
            centre=evaluate(TASK, test[key], labels, 4),
            validation=evaluate(TASK, checked[key], their_labels, 4) if validation else None,
            test_predictions=test[key],
            test_targets=labels,
            validation_predictions=checked[key] if validation else checked[key][:0],
            validation_targets=their_labels if validation else their_labels[:0],
        )
        for key in test
    }


def together(method: str, **changes: Any) -> EnsembleResult:
    made = results(**changes)
    return judge_ensemble(TASK, made, method, candidates=made, interval=0.95)


def test_equal_weights_average_all() -> None:
    made, found = results(), together("equal")
    assert found.weights == pytest.approx({"0": 1 / 3, "1": 1 / 3, "2": 1 / 3})
    average = average_log_probs([result.test_predictions for result in made.values()])
    assert found.test is not None
    assert found.test.score == correct(average, made["0"].test_targets).mean()
    assert found.metrics(TASK)["test/accuracy"] == found.test.score
    assert "val/accuracy" in found.metrics(TASK)


def test_greedy_weights_are_chosen_on_validation_and_measured_on_test() -> None:
    made, found = results(), together("greedy")
    assert found.weights["0"] == 0
    assert "0" not in found.members
    mixed = weighted_log_probs({k: r.test_predictions for k, r in made.items()}, found.weights)
    assert found.test is not None
    assert found.test.score == correct(mixed, made["0"].test_targets).mean()


def test_none_leaves_the_champion_alone() -> None:
    found = together("none")
    assert (found.champion, found.test, found.metrics(TASK)) == ("2", None, {})
    assert found.members == {"2": 1.0}
    assert found.to_json(TASK)["test"] is None


def test_without_validation_images_greedy_is_equal_and_the_last_is_champion() -> None:
    found = together("greedy", validation=False)
    assert set(found.weights.values()) == {1 / 3}
    assert found.champion == "2"
    assert "no validation images" in found.champion_reason
    assert "val/accuracy" not in found.metrics(TASK)


def test_it_is_plain_json() -> None:
    found = together("equal")
    value = json.loads(json.dumps(found.to_json(TASK), allow_nan=False))
    assert evaluation_from_json(value["test"], TASK) == found.test
    assert (value["champion"], value["weights"]) == (found.champion, found.weights)


def test_the_champion_is_that_of_the_validation_images() -> None:
    made = results()
    swapped = {"0": made["2"], "1": made["1"], "2": made["0"]}
    found = judge_ensemble(TASK, swapped, "equal", candidates=swapped, interval=0.95)
    assert found.champion == "0"
    assert np.isfinite(list(found.metrics(TASK).values())).all()


def test_a_student_of_another_seed_is_in_the_ensemble_but_no_champion() -> None:
    made = results()
    renamed = {"0": made["0"], "1": made["1"], "1.1": made["2"]}
    found = judge_ensemble(
        TASK, renamed, "greedy", candidates={key: renamed[key] for key in ("0", "1")}, interval=0.95
    )
    assert found.champion == "1"
    assert found.members["1.1"] > 0
