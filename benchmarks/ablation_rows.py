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


def _supervised_strongly(values: Values) -> None:
    _supervised(values)
    values["teacher"]["train"]["labeled_augment"] = "strong"


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


def _offline(values: Values) -> None:
    for training in _student_trainings(values):
        training["online"] = None


def _no_balancing(values: Values) -> None:
    _select(values, fraction_per_class=None, distribution_alignment="none")
    for training in _student_trainings(values):
        if training.get("online") is not None:
            training["online"] = training["online"] | {"distribution_alignment": False}


def _surest_first(values: Values) -> None:
    generations = list(values["generations"].values())
    for number, part in enumerate(generations):
        share = (1 + number / max(1, len(generations) - 1)) / 2  # half at first, all at last
        part["select"] = part.get("select", {}) | {"fraction_per_class": round(share, 2)}


FULL = Row("full", "the preset, the last generation with test-time views", "all of it")
ROWS = (
    FULL,
    Row(
        "supervised",
        "the labels alone, as many steps as all generations together, the same noise",
        "self-training",
        _supervised,
    ),
    Row(
        "supervised, strong noise",
        "the same, the labelled images augmented as strongly as unlabelled ones",
        "self-training",
        _supervised_strongly,
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
        "every prediction as the teacher makes it, however the classes fall",
        "balancing",
        _no_balancing,
    ),
    Row(
        "quotas",
        "the surest equally many of each class, rare ones repeated, without alignment",
        "balancing by quotas alone",
        lambda values: _select(values, distribution_alignment="none", fraction_per_class=1.0),
        adds=True,
    ),
    Row(
        "threshold",
        "only predictions with a confidence of 0.9 or more, however the classes fall",
        "a threshold",
        lambda values: _select(values, confidence_threshold=0.9, fraction_per_class=None),
        adds=True,
    ),
    Row(
        "surest first",
        "the surest half of each class in generation 1, more in each, all in the last",
        "choosing the surest first",
        _surest_first,
        adds=True,
    ),
    Row(
        "one generation",
        "one student, taught by generation 0, for the steps of all students",
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
        "offline teacher",
        "the student learns what generation 0 said of the images, before it and once",
        "an online teacher",
        _offline,
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
GENERATIONS = tuple(
    row.name for row in ROWS if row.name not in ("supervised, strong noise", "offline teacher")
)
MAIN = (
    *("full", "supervised", "no data noise", "no model noise", "hard labels", "no balancing"),
    *("one generation", "no test-time views", "ensemble"),
)
ONLINE = ("full", "supervised", "supervised, strong noise", "offline teacher", "no test-time views")
