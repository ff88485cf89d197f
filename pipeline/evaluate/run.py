"""Measure one model on the prepared images, and keep what later comparisons need."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import DataError
from pipeline.evaluate.metrics import Floats, Integers, correct
from pipeline.evaluate.result import (
    Evaluation,
    evaluate,
    evaluation_from_json,
    evaluation_to_json,
    flat_metrics,
    paired_from_json,
)
from pipeline.evaluate.robustness import (
    Robustness,
    chosen_rows,
    mean_corruption_error,
    measure_robustness,
    robustness_from_json,
    times_seen,
)
from pipeline.evaluate.significance import PairedTest, compare
from pipeline.files import csv_text, read_json, write_json, write_text, written_whole

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.data.sliced import LabeledImages

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class ModelResult:
    """A model's figures and what it thinks of each image, log-probabilities (N, K).

    `test` is with the test-time views, `centre` the same images without; `knn_accuracy`: of the
    nearest labelled images in the network's features, and `robustness`: under corruptions with the
    centre view, if that was asked for.
    """

    test: Evaluation
    centre: Evaluation
    validation: Evaluation | None
    test_log_probs: Floats
    test_labels: Integers
    validation_log_probs: Floats
    validation_labels: Integers
    against_teacher: PairedTest | None = None
    against_first: PairedTest | None = None
    knn_accuracy: float | None = None
    robustness: Robustness | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """The flat figures of the metrics file."""
        return flat_metrics(
            self.test,
            centre=self.centre,
            validation=self.validation,
            against_teacher=self.against_teacher,
            knn_accuracy=self.knn_accuracy,
            robustness=self.robustness,
        )


Predict = Callable[["LabeledImages", str], Floats]
Nearest = Callable[["LabeledImages", "LabeledImages"], float]


def measure(
    predict: Predict,
    prepared: Path,
    *,
    view: str,
    interval: float,
    seed: int,
    threads: int,
    nearest: Nearest | None = None,
    robustness_images: int | None = None,
) -> ModelResult:
    """Measure a model on the validation and test images of `prepared`, read shard by shard.

    `predict(images, view)` gives log-probabilities (N, K); `nearest(labeled, test)` the accuracy of
    the nearest neighbours, None for none; robustness_images: how many test images are also
    corrupted, None for none. Raises DataError without test images.
    """
    from pipeline.data.sliced import labeled_images  # imports torch
    from pipeline.data.tensors import decoding_pool

    with decoding_pool(threads) as pool:
        test, validation = (
            labeled_images(prepared / part, pool) for part in ("test", "validation")
        )
        if not len(test):
            raise DataError(f"{prepared / 'test'}: no test images; raise data.test_fraction")

        seen = predict(test, view)
        return model_result(
            seen,
            seen if view == "centre" else predict(test, "centre"),
            test.labels.numpy(),
            predict(validation, view) if len(validation) else seen[:0],
            validation.labels.numpy(),
            knn_accuracy=nearest(labeled_images(prepared / "labeled", pool), test)
            if nearest
            else None,
            robustness=_robustness(predict, test, robustness_images, seed),
            interval=interval,
        )


def model_result(
    seen: Floats,
    centre: Floats,
    labels: Integers,
    checked: Floats,
    checked_labels: Integers,
    *,
    knn_accuracy: float | None = None,
    robustness: Robustness | None = None,
    interval: float,
) -> ModelResult:
    """The figures of log-probabilities of test images, with views and without, and of validation
    images (or of labelled ones, out of fold), (N, K) each, and of their labels (N,)."""

    def figures(log_probs: Floats, labels: Integers) -> Evaluation:
        return evaluate(log_probs, labels, interval=interval)

    return ModelResult(
        test=figures(seen, labels),
        centre=figures(centre, labels),
        validation=figures(checked, checked_labels) if len(checked_labels) else None,
        test_log_probs=seen,
        test_labels=labels,
        validation_log_probs=checked,
        validation_labels=checked_labels,
        knn_accuracy=knn_accuracy,
        robustness=robustness,
    )


def images_seen(
    test: int, validation: int, *, channels: int, view: str, robustness_images: int | None
) -> int:
    """How many images `measure` predicts of so many, an image each time that it does."""
    seen = test * (1 if view == "centre" else 2) + validation
    if robustness_images is None:  # to count corruptions is to import torch
        return seen
    return seen + min(test, robustness_images) * times_seen(channels)


def _robustness(
    predict: Predict, test: LabeledImages, most: int | None, seed: int
) -> Robustness | None:
    if most is None:
        return None
    import torch

    rows = chosen_rows(len(test), most, seed)
    some = torch.cat([test.images[row : row + 1] for row in rows])
    labels = test.labels[rows]

    def plain(images: Tensor) -> Floats:
        return predict(replace(test, images=images, labels=labels), "centre")

    return measure_robustness(plain, some, labels, seed=seed)


def compare_with(
    result: ModelResult,
    first: ModelResult,
    teacher: ModelResult,
    *,
    bootstrap_samples: int,
    interval: float,
    seed: int,
) -> ModelResult:
    """`result` beside generation 0 and its teacher: paired tests, mean corruption error."""

    def paired(other: ModelResult) -> PairedTest:
        return compare(
            correct(other.test_log_probs, other.test_labels),
            correct(result.test_log_probs, result.test_labels),
            samples=bootstrap_samples,
            interval=interval,
            seed=seed,
        )

    robustness = result.robustness
    if robustness is not None and first.robustness is not None:
        relative = mean_corruption_error(robustness, first.robustness)
        robustness = replace(robustness, mean_corruption_error=relative)
    return replace(
        result,
        against_first=paired(first),
        against_teacher=paired(teacher),
        robustness=robustness,
    )


def save_result(folder: Path, result: ModelResult) -> None:
    """Write `result` to `folder`: figures as JSON, log-probabilities and labels as .npy."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / RESULT_FILE,
        {
            "test": evaluation_to_json(result.test),
            "centre": evaluation_to_json(result.centre),
            "validation": result.validation and evaluation_to_json(result.validation),
            "against_teacher": result.against_teacher and asdict(result.against_teacher),
            "against_first": result.against_first and asdict(result.against_first),
            "knn_accuracy": result.knn_accuracy,
            "robustness": result.robustness and asdict(result.robustness),
        },
    )
    for name in ("test_log_probs", "test_labels", "validation_log_probs", "validation_labels"):
        _save_array(folder / f"{name}.npy", getattr(result, name))


def load_result(folder: Path) -> ModelResult:
    """What save_result wrote; raises DataError where that is missing or altered."""
    try:
        figures = read_json(folder / RESULT_FILE)
        arrays = {
            name: np.load(folder / f"{name}.npy", allow_pickle=False)
            for name in (
                "test_log_probs",
                "test_labels",
                "validation_log_probs",
                "validation_labels",
            )
        }
        return ModelResult(
            test=evaluation_from_json(figures["test"]),
            centre=evaluation_from_json(figures["centre"]),
            validation=_maybe(evaluation_from_json, figures["validation"]),
            against_teacher=_maybe(paired_from_json, figures["against_teacher"]),
            against_first=_maybe(paired_from_json, figures["against_first"]),
            knn_accuracy=figures["knn_accuracy"],
            robustness=_maybe(robustness_from_json, figures["robustness"]),
            **arrays,
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: not an evaluation ({error}); run its stage again") from None


def write_confusion(path: Path, result: ModelResult, classes: Sequence[str]) -> None:
    """A row for each test image: its class and what the model says, for DVC's confusion plot.

    DVC puts the names into a page's script as they are, so `<` becomes `‹`.
    """
    names = [csv_text(name.replace("<", "‹")) for name in classes]
    pairs = zip(result.test_labels.tolist(), result.test_log_probs.argmax(axis=1), strict=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["actual", "predicted"])
    writer.writerows([names[label], names[guess]] for label, guess in pairs)
    write_text(path, text.getvalue())


def _save_array(path: Path, values: Any) -> None:
    with written_whole(path) as partial, partial.open("wb") as file:
        np.save(file, values, allow_pickle=False)


def _maybe(read: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else read(value)
