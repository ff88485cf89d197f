import json
from dataclasses import asdict

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.evaluate.result import (
    Evaluation,
    confusion_array,
    evaluate,
    evaluation_from_json,
    evaluation_to_json,
    flat_metrics,
    paired_from_json,
)
from pipeline.evaluate.significance import compare


def example(classes: int = 4, seed: int = 0) -> Evaluation:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes - 1, size=120)
    log_probs = np.log(generator.dirichlet(np.ones(classes), size=120))
    return evaluate(log_probs, labels)


def test_an_evaluation_survives_json() -> None:
    evaluation = example()
    text = json.dumps(evaluation_to_json(evaluation), allow_nan=False)
    assert evaluation_from_json(json.loads(text)) == evaluation


def test_a_paired_test_survives_json() -> None:
    test = compare(np.array([True, False, True]), np.array([True, True, True]))
    assert paired_from_json(json.loads(json.dumps(asdict(test)))) == test


def test_other_json_is_refused() -> None:
    with pytest.raises(DataError):
        evaluation_from_json({"accuracy": 1.0})
    with pytest.raises(DataError):
        paired_from_json({"accuracy": 1.0})


def test_parts_agree_with_each_other() -> None:
    evaluation = example()
    confusion = confusion_array(evaluation)
    assert confusion.sum() == evaluation.images == 120
    assert np.trace(confusion) / 120 == pytest.approx(evaluation.accuracy)
    assert evaluation.low <= evaluation.accuracy <= evaluation.high
    assert evaluation.per_class[3] is None  # no image of the last class
    assert sum(part.images for part in evaluation.reliability) == 120


def test_flat_metrics_hold_the_agreed_keys_and_numbers_only() -> None:
    flat = flat_metrics(example())
    assert set(flat) == {
        "test/accuracy",
        "test/accuracy_low",
        "test/accuracy_high",
        "test/nll",
        "test/ece",
    }
    assert all(isinstance(value, float) for value in flat.values())


def test_flat_metrics_name_what_else_is_known() -> None:
    centre, validation = example(seed=1), example(seed=2)
    test = compare(np.array([True, False, True]), np.array([True, True, True]))
    flat = flat_metrics(
        example(classes=9), centre=centre, validation=validation, against_teacher=test
    )
    assert flat["test/centre/accuracy"] == centre.accuracy
    assert flat["val/accuracy"] == validation.accuracy
    assert flat["test/gain"] == pytest.approx(1 / 3)
    assert 0 < flat["test/top5"] <= 1
