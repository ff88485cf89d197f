"""Everything measured of one model, and what later comparisons need, in memory and on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import numpy as np

from pipeline.errors import DataError, visible
from pipeline.evaluate.corruption_error import (
    Robustness,
    mean_corruption_error,
    robustness_from_json,
)
from pipeline.files import csv_rows, read_json, regular, write_json, written_whole
from pipeline.params.predict import Views
from pipeline.tasks import Task, metrics
from pipeline.tasks.metrics import CalibrationBin
from pipeline.tasks.significance import Bootstrap, PairedTest
from pipeline.tasks.task import Array

RESULT_FILE = "result.json"
KNOWN_VIEWS: Mapping[str, Views] = {name: name for name in get_args(Views)}
NAMED = 3  # classes
WEAK = 0.95  # accuracy under which a class is worth more labels
FEWEST = 5  # test images of a class that is judged
MOST_CONFUSIONS = 20_000  # rows of DVC's plot, where units are not images
ARRAYS = ("test_predictions", "test_targets", "validation_predictions", "validation_targets")


@dataclass(frozen=True)
class Evaluation:
    """The figures of one model on `images` images; `low` and `high` bound the task's score.

    top5: of images with one class each; nll, ece, confusion, reliability: of units, not necessarily
    all; more: those of the task alone.
    """

    images: int
    score: float
    low: float
    high: float
    top5: float | None
    nll: float
    ece: float
    per_class: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]
    reliability: tuple[CalibrationBin, ...]
    more: Mapping[str, float] = field(default_factory=dict)

    def to_json(self, task: Task) -> dict[str, Any]:
        """As a JSON value, the score under the task's name for it."""
        value = asdict(self)
        value[task.score] = value.pop("score")
        return value if self.more else {key: value[key] for key in value if key != "more"}


def weakest_classes(classes: Sequence[str], test: Evaluation, task: Task) -> str:
    """The classes that are worth more labels, weakest first: "cat (50 % right)"; "" for none."""
    score = "right" if task.image_classes else task.class_score
    weak = sorted(
        (accuracy, name)
        for name, accuracy, row in zip(classes, test.per_class, test.confusion, strict=True)
        if accuracy is not None and accuracy < WEAK and sum(row) >= FEWEST
    )
    return ", ".join(f"{name} ({100 * accuracy:.0f} % {score})" for accuracy, name in weak[:NAMED])


@dataclass(frozen=True)
class ModelResult:
    """A model's figures and what it thinks of each image, as the task's predictions (N, …).

    `test` is with the test-time views, `centre` the same images without, `validation` without;
    `robustness`: under corruptions with the centre view, if that was asked for; `views`: which.
    """

    test: Evaluation
    centre: Evaluation
    validation: Evaluation | None
    test_predictions: Array
    test_targets: Array
    validation_predictions: Array
    validation_targets: Array
    against_teacher: PairedTest | None = None
    against_first: PairedTest | None = None
    robustness: Robustness | None = None
    views: Views = "centre"

    @property
    def num_classes(self) -> int:
        """Of the task."""
        return len(self.test.per_class)

    def test_evidence(self, task: Task) -> Array:
        """How each test image speaks for it."""
        return task.evidence(self.test_predictions, self.test_targets, self.num_classes)

    def validation_evidence(self, task: Task) -> Array | None:
        """How each validation image speaks for it; None where it was judged on none."""
        if self.validation is None:
            return None
        return task.evidence(self.validation_predictions, self.validation_targets, self.num_classes)

    def metrics(self, task: Task) -> dict[str, float]:
        """The figures as DVC and MLflow take them: one number a key; the unknown has no key."""
        flat = flat_metrics(task, self.test, validation=self.validation, centre=self.centre)
        if self.robustness is not None:
            flat["test/corrupted_accuracy"] = self.robustness.mean_accuracy
            flat["test/mce"] = self.robustness.mean_corruption_error
        if (test := self.against_teacher) is not None:
            flat |= {"test/gain": test.difference, "test/gain_p_value": test.p_value}
            flat |= {"test/gain_low": test.low, "test/gain_high": test.high}
        return flat


def evaluate(
    task: Task, predictions: Array, targets: Array, num_classes: int, *, interval: float = 0.95
) -> Evaluation:
    """Measure predictions (N, …) against targets (N, …); raises DataError as the metrics do."""
    evidence = task.evidence(predictions, targets, num_classes)
    score, per_class = task.scores(evidence)
    low, high = task.interval(evidence, Bootstrap(interval=interval))
    log_probs, labels = task.classified(predictions, targets, num_classes)
    confusion = metrics.confusion_matrix(log_probs, labels)
    bins = metrics.calibration_bins(log_probs, labels)
    return Evaluation(
        images=len(targets),
        score=score,
        low=low,
        high=high,
        top5=metrics.top_k_accuracy(log_probs, labels) if task.image_classes else None,
        nll=metrics.negative_log_likelihood(log_probs, labels),
        ece=metrics.expected_calibration_error(bins),
        per_class=(*per_class, *[None] * (num_classes - len(per_class))),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        reliability=tuple(bins),
        more=task.more_figures(evidence, predictions, targets),
    )


def model_result(
    task: Task,
    test: Array,
    centre: Array,
    targets: Array,
    validation: Array,
    validation_targets: Array,
    num_classes: int,
    *,
    interval: float,
    views: Views = "centre",
    robustness: Robustness | None = None,
) -> ModelResult:
    """The figures of predictions of test images, with views and without, and of validation images
    (or of labelled ones, out of fold), and their targets, (N, …) each."""

    def figures(predictions: Array, targets: Array) -> Evaluation:
        return evaluate(task, predictions, targets, num_classes, interval=interval)

    found = figures(test, targets)
    return ModelResult(
        test=found,
        centre=found if centre is test else figures(centre, targets),
        validation=figures(validation, validation_targets) if len(validation_targets) else None,
        test_predictions=test,
        test_targets=targets,
        validation_predictions=validation,
        validation_targets=validation_targets,
        robustness=robustness,
        views=views,
    )


def flat_metrics(
    task: Task,
    test: Evaluation,
    *,
    validation: Evaluation | None = None,
    centre: Evaluation | None = None,
) -> dict[str, float]:
    """One number a key; centre: on the test images without test-time views."""
    flat = {
        f"test/{task.score}": test.score,
        f"test/{task.score}_low": test.low,
        f"test/{task.score}_high": test.high,
        "test/nll": test.nll,
        "test/ece": test.ece,
        **{f"test/{name}": value for name, value in test.more.items()},
    }
    if test.top5 is not None:
        flat["test/top5"] = test.top5
    for name, part in (("test/centre", centre), ("val", validation)):
        if part is not None:
            flat |= {f"{name}/{task.score}": part.score}
            flat |= {f"{name}/{key}": getattr(part, key) for key in ("nll", "ece")}
    return flat


def compare_with(
    task: Task, result: ModelResult, first: ModelResult, teacher: ModelResult, bootstrap: Bootstrap
) -> ModelResult:
    """`result` beside generation 0 and its teacher: paired tests, mean corruption error."""
    robustness = result.robustness
    if robustness is not None and first.robustness is not None:
        relative = mean_corruption_error(robustness, first.robustness)
        robustness = replace(robustness, mean_corruption_error=relative)
    own = result.test_evidence(task)
    return replace(
        result,
        against_first=task.compare(first.test_evidence(task), own, bootstrap),
        against_teacher=task.compare(teacher.test_evidence(task), own, bootstrap),
        robustness=robustness,
    )


def evaluation_from_json(value: Mapping[str, Any], task: Task) -> Evaluation:
    """The Evaluation that to_json made `value` of; raises DataError for anything else."""
    try:
        fields = dict(value)
        fields["score"] = fields.pop(task.score)
        fields["per_class"] = tuple(fields["per_class"])
        fields["confusion"] = tuple(tuple(row) for row in fields["confusion"])
        fields["reliability"] = tuple(CalibrationBin(**part) for part in fields["reliability"])
        return Evaluation(**fields)
    except (KeyError, TypeError) as error:
        raise DataError(f"not the figures of an evaluation: {error}") from None


def confusion_array(evaluation: Evaluation) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """The confusion counts as an array (K, K)."""
    return np.array(evaluation.confusion, dtype=np.int64)


def save_result(folder: Path, result: ModelResult, task: Task) -> None:
    """Write `result` to `folder`: figures as JSON, predictions and targets as .npy."""

    def plain(value: Any) -> Any:
        if isinstance(value, Evaluation):
            return value.to_json(task)
        return value if value is None or isinstance(value, str) else asdict(value)

    figures = {name: value for name, value in vars(result).items() if name not in ARRAYS}
    write_json(folder / RESULT_FILE, {name: plain(value) for name, value in figures.items()})
    for name in ARRAYS:
        with written_whole(folder / f"{name}.npy") as unfinished, unfinished.open("wb") as file:
            np.save(file, getattr(result, name), allow_pickle=False)


def load_result(folder: Path, task: Task) -> ModelResult:
    """What save_result wrote; raises DataError where that is missing or altered."""
    evaluation = partial(evaluation_from_json, task=task)
    readers: dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys(("test", "centre", "validation"), evaluation),
        "against_teacher": lambda value: PairedTest(**value),
        "against_first": lambda value: PairedTest(**value),
        "robustness": robustness_from_json,
        "views": KNOWN_VIEWS.__getitem__,
    }
    try:
        figures = read_json(folder / RESULT_FILE)
        parts = {name: figures[name] and read(figures[name]) for name, read in readers.items()}
        for name in ARRAYS:
            file = regular(folder / f"{name}.npy")  # read from disk as it is used
            parts[name] = np.asarray(np.load(file, "r", allow_pickle=False))
        result = ModelResult(**parts)
        result.test_evidence(task)
        result.validation_evidence(task)
        return result
    except Exception as error:  # numpy reads the header of an array by Python's own parser
        raise DataError(f"{folder}: not an evaluation ({error}); run its stage again") from None


def views_used(folder: Path) -> Views:
    """The test-time views of the evaluation in `folder`; raises DataError as load_result."""
    try:
        return KNOWN_VIEWS[read_json(folder / RESULT_FILE)["views"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{folder}: not an evaluation ({error}); run its stage again") from None


def write_confusion(path: Path, result: ModelResult, classes: Sequence[str], task: Task) -> None:
    """A row for each test image, or for some units of them: its class and what the model says, for
    DVC's confusion plot.

    DVC puts the names into a page's script, so they are made visible, and `<` becomes `‹`.
    """
    names = [visible(name).replace("<", "‹") for name in classes]
    log_probs, labels = task.classified(
        result.test_predictions, result.test_targets, result.num_classes
    )
    every = -(-len(labels) // max(MOST_CONFUSIONS, len(result.test_targets)))
    pairs = zip(labels[::every], log_probs[::every].argmax(axis=1), strict=True)
    rows = ((names[label], names[guess]) for label, guess in pairs)
    with written_whole(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        csv_rows(file, chain([("actual", "predicted")], rows))
