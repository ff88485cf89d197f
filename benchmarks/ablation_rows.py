"""The rows of the ablation: each a change of a data set's parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.params import Params, parse_params

Values = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """What is taken away, or put in place of something, and which figure of the run counts.

    part: what the row tells of; adds: whether the row has it, and not the full form; figure: "last"
    generation with test-time views, its "centre" view, or the "ensemble" of all generations.
    """

    name: str
    what: str
    part: str
    change: Callable[[Values], None] = lambda values: None
    adds: bool = False
    figure: str = "last"


def row_params(row: Row, params: Params) -> Params:
    """The parameters of a row; `params` are those of the full form."""
    values = copy.deepcopy(params.model_dump(exclude_unset=True))
    row.change(values)
    return parse_params(values, f"ablation row {row.name!r}")


def with_steps(params: Params, steps: int) -> Params:
    """The same with so many steps for every student, and as many for generation 0."""
    values = copy.deepcopy(params.model_dump(exclude_unset=True))
    values["train"]["steps"] = steps
    for part in _trainings(values):
        part.pop("steps", None)
    return parse_params(values, "ablation")


def _trainings(values: Values) -> list[Values]:
    """`train` of generation 0 and of every student, to be changed in place."""
    teacher = values.setdefault("teacher", {}).setdefault("train", {})
    return [teacher, *_student_trainings(values)]


def _student_trainings(values: Values) -> list[Values]:
    students = [part.setdefault("student", {}) for part in values["generations"].values()]
    return [student.setdefault("train", {}) for student in students]


def _steps(values: Values, trainings: list[Values]) -> int:
    return sum(part.get("steps", values["train"]["steps"]) for part in trainings)


def _supervised(values: Values) -> None:
    trainings = _trainings(values)
    trainings[0]["steps"] = _steps(values, trainings)
    values["generations"] = {}


def _no_data_noise(values: Values) -> None:
    for training in _student_trainings(values):
        training.update(labeled_augment="none", unlabeled_augment="none")


def _no_model_noise(values: Values) -> None:
    for part in values["generations"].values():
        model = part.setdefault("student", {}).setdefault("model", {})
        model.update(dropout_rate=0.0, stochastic_depth_rate=0.0)


def _select(values: Values, **changes: Any) -> None:
    for part in values["generations"].values():
        part["select"] = part.get("select", {}) | changes


def _one_generation(values: Values) -> None:
    steps = _steps(values, _student_trainings(values))
    only = values["generations"]["1"]
    only["select"] = {}
    only["student"].setdefault("train", {})["steps"] = steps
    values["generations"] = {"1": only}


def _growing(values: Values) -> None:
    list(values["generations"].values())[-1].setdefault("student", {})["grow"] = 1


def _online(values: Values) -> None:
    _student_trainings(values)[-1]["online"] = {}


FULL = Row("full", "the preset: three generations, the last one with test-time views", "all of it")
ROWS = (
    FULL,
    Row(
        "supervised",
        "the labels alone, as many steps as all generations together, the same noise",
        "self-training",
        _supervised,
    ),
    Row(
        "no data noise",
        "students see plain images, without augmentation",
        "data noise",
        _no_data_noise,
    ),
    Row(
        "no model noise",
        "students without dropout and stochastic depth",
        "model noise",
        _no_model_noise,
    ),
    Row(
        "hard labels",
        "the teacher's choice in place of its probabilities",
        "soft labels",
        lambda values: _select(values, label_kind="hard"),
    ),
    Row(
        "no balancing",
        "every prediction over the threshold, however the classes fall",
        "balancing",
        lambda values: _select(values, fraction_per_class=None),
    ),
    Row(
        "no threshold",
        "every class filled up to its equal share, from the first generation on, however unsure",
        "choosing the surest first",
        lambda values: _select(values, confidence_threshold=0.0, fraction_per_class=1.0),
    ),
    Row(
        "one generation",
        "one student, taught by generation 0 on everything, for the steps of all three",
        "repeating",
        _one_generation,
    ),
    Row(
        "growing student",
        "the last student a size larger, in place of all equal",
        "a growing student",
        _growing,
        adds=True,
    ),
    Row(
        "online teacher",
        "the last student teaches itself after 30 % of its steps",
        "an online teacher",
        _online,
        adds=True,
    ),
    Row(
        "no test-time views",
        "the same runs, one centre view",
        "averaging over views",
        figure="centre",
    ),
    Row(
        "ensemble",
        "the same runs, all generations averaged; the others are without",
        "the ensemble",
        adds=True,
        figure="ensemble",
    ),
)
