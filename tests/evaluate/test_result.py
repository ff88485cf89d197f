import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.evaluate.corruption_error import Robustness, mean_corruption_error
from pipeline.evaluate.result import (
    RESULT_FILE,
    Evaluation,
    ModelResult,
    compare_with,
    confusion_array,
    evaluate,
    evaluation_from_json,
    flat_metrics,
    load_result,
    model_result,
    save_result,
    write_confusion,
)
from pipeline.tasks import open_task
from pipeline.tasks.significance import Bootstrap

TASK = open_task("classification")

BOOTSTRAP = Bootstrap(samples=200)
ROBUST = Robustness(images=100, clean=1.0, accuracy={"fog": (0.9, 0.8), "snow": (0.5, 0.5)})


def example(classes: int = 4, seed: int = 0) -> Evaluation:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes - 1, size=120)
    log_probs = np.log(generator.dirichlet(np.ones(classes), size=120))
    return evaluate(TASK, log_probs, labels, classes)


def measured(miss: int = 4, robustness: Robustness | None = None) -> ModelResult:
    """A model that has 60 test and 15 validation images right but every `miss`-th one."""
    labels = np.arange(75) % 3
    guesses = np.where(np.arange(75) % miss == 0, (labels + 1) % 3, labels)
    log_probs = np.log(np.eye(3, dtype=np.float32)[guesses] * 0.7 + 0.1)
    return model_result(
        TASK,
        log_probs[:60],
        log_probs[:60],
        labels[:60],
        log_probs[60:],
        labels[60:],
        3,
        interval=0.95,
        robustness=robustness,
    )


def test_an_evaluation_survives_json() -> None:
    evaluation = example()
    text = json.dumps(evaluation.to_json(TASK), allow_nan=False)
    assert evaluation_from_json(json.loads(text), TASK) == evaluation
    with pytest.raises(DataError):
        evaluation_from_json({"accuracy": 1.0}, TASK)


def test_parts_agree_with_each_other() -> None:
    evaluation = example()
    confusion = confusion_array(evaluation)
    assert confusion.sum() == evaluation.images == 120
    assert np.trace(confusion) / 120 == pytest.approx(evaluation.score)
    assert evaluation.low <= evaluation.score <= evaluation.high
    assert evaluation.per_class[3] is None  # no image of the last class
    assert sum(part.images for part in evaluation.reliability) == 120


def test_flat_metrics_hold_the_agreed_keys_and_numbers_only() -> None:
    flat = flat_metrics(TASK, example())
    assert set(flat) == {
        "test/accuracy",
        "test/accuracy_low",
        "test/accuracy_high",
        "test/nll",
        "test/ece",
    }
    assert all(isinstance(value, float) for value in flat.values())


def test_metrics_name_what_else_is_known() -> None:
    result = replace(measured(robustness=ROBUST), test=example(classes=9))
    flat = compare_with(TASK, result, result, result, BOOTSTRAP).metrics(TASK)
    assert result.validation is not None
    assert flat["test/centre/accuracy"] == result.centre.score
    assert flat["val/accuracy"] == result.validation.score
    assert (flat["test/gain"], flat["test/mce"]) == (0, 1)
    assert flat["test/corrupted_accuracy"] == pytest.approx(0.675)
    assert 0 < flat["test/top5"] <= 1
    plain = measured().metrics(TASK)
    assert not {"test/gain", "test/mce"} & plain.keys()


def test_without_validation_images_there_are_no_figures_of_them(tmp_path: Path) -> None:
    whole = measured()
    result = model_result(
        TASK,
        whole.test_predictions,
        whole.test_predictions,
        whole.test_targets,
        whole.test_predictions[:0],
        whole.test_targets[:0],
        3,
        interval=0.95,
    )
    assert result.validation is None
    assert "val/accuracy" not in result.metrics(TASK)
    save_result(tmp_path, result, TASK)
    assert load_result(tmp_path, TASK).validation is None


def test_a_better_model_is_called_so_against_both() -> None:
    first, teacher, student = (measured(miss) for miss in (1, 2, 1000))
    result = compare_with(TASK, student, first, teacher, BOOTSTRAP)
    assert result.against_first is not None
    assert result.against_teacher is not None
    assert result.against_first.difference > result.against_teacher.difference > 0
    assert result.against_teacher.verdict == "better"
    assert result.metrics(TASK)["test/gain"] == result.against_teacher.difference
    same = compare_with(TASK, teacher, teacher, student, BOOTSTRAP)
    assert same.against_first is not None
    assert same.against_first.difference == 0
    assert same.against_teacher is not None
    assert same.against_teacher.verdict == "worse"


def test_a_result_comes_back_as_it_was_and_in_the_same_bytes(tmp_path: Path) -> None:
    result = compare_with(TASK, measured(robustness=ROBUST), measured(2), measured(3), BOOTSTRAP)
    for name in ("a", "b"):
        save_result(tmp_path / name, result, TASK)
    loaded = load_result(tmp_path / "a", TASK)
    for name in (
        "test_predictions",
        "test_targets",
        "validation_predictions",
        "validation_targets",
    ):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(result, name))
    for name in (
        "test",
        "centre",
        "validation",
        "against_first",
        "against_teacher",
        "robustness",
        "views",
    ):
        assert getattr(loaded, name) == getattr(result, name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def altered(name: str, value: object) -> bytes:
    """A file of figures of which one has become something else."""
    result = measured()
    figures = asdict(result) | {
        name: getattr(result, name) and getattr(result, name).to_json(TASK)
        for name in ("test", "centre", "validation")
    }
    plain = {key: value for key, value in figures.items() if not isinstance(value, np.ndarray)}
    return json.dumps(plain | {name: value}).encode()


def test_a_missing_cut_or_foreign_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not an evaluation"):
        load_result(tmp_path / "nowhere", TASK)
    for number, (name, content) in enumerate(
        [
            (RESULT_FILE, b"{"),
            (RESULT_FILE, b"[]"),
            (RESULT_FILE, b"{}"),
            (RESULT_FILE, altered("test", {"accuracy": 1})),
            (RESULT_FILE, altered("against_first", {"p_value": 1})),
            (RESULT_FILE, altered("robustness", {"accuracy": {"fog": 1}})),
            (RESULT_FILE, altered("views", "six_crop")),
            ("test_predictions.npy", b""),
            ("test_predictions.npy", b"\x93NUMPY\x01\x00"),
            ("validation_targets.npy", b"no array"),
        ]
    ):
        folder = tmp_path / str(number)
        save_result(folder, measured(), TASK)
        (folder / name).write_bytes(content)
        with pytest.raises(DataError, match="run its stage again") as caught:
            load_result(folder, TASK)
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_confusion_file_holds_a_row_for_each_image(tmp_path: Path) -> None:
    result = replace(
        measured(),
        test_targets=np.array([0, 1, 2, 2]),
        test_predictions=np.log(np.eye(3, dtype=np.float32)[[0, 2, 2, 1]] + 0.1),
    )
    write_confusion(tmp_path / "confusion.csv", result, ["left", "a, b", "right"], TASK)
    assert (tmp_path / "confusion.csv").read_text() == (
        'actual,predicted\nleft,left\n"a, b",right\nright,right\nright,"a, b"\n'
    )


def robust(**accuracy: tuple[float, ...]) -> Robustness:
    return Robustness(images=100, clean=1.0, accuracy=accuracy)


def test_mean_corruption_error_is_the_formula() -> None:
    first = robust(fog=(0.9, 0.8), snow=(0.5, 0.5))
    better = robust(fog=(0.95, 0.9), snow=(0.6, 0.5))
    assert mean_corruption_error(first, first) == 1
    assert mean_corruption_error(better, first) == pytest.approx((0.15 / 0.3 + 0.9 / 1.0) / 2)


def test_no_errors_count_as_half_an_image() -> None:
    first, perfect = robust(fog=(0.9, 0.9)), robust(fog=(1.0, 1.0))
    assert mean_corruption_error(perfect, first) == pytest.approx(0.005 / 0.2)
    assert mean_corruption_error(first, perfect) == pytest.approx(0.2 / 0.005)
    assert mean_corruption_error(perfect, perfect) == 1


def test_what_is_not_comparable_is_refused() -> None:
    first = robust(fog=(0.9, 0.9))
    for other in (replace(first, images=50), robust(snow=(0.9, 0.9))):
        with pytest.raises(DataError, match="evaluate both generations again"):
            mean_corruption_error(other, first)


def test_severities_are_averaged_over_corruptions() -> None:
    assert ROBUST.by_severity == pytest.approx([1.0, 0.7, 0.65])
    student = measured(robustness=replace(ROBUST, accuracy={"fog": (0.95, 0.9), "snow": (1, 1)}))
    compared = compare_with(TASK, student, measured(robustness=ROBUST), measured(), BOOTSTRAP)
    assert compared.metrics(TASK)["test/mce"] == pytest.approx((0.15 / 0.3 + 0.005) / 2)
