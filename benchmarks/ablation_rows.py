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

    part: what the row tells of; change: of the full form's parameters, in place, described by its
    docstring; adds: whether the row has the part, and not the full form; figure: "last" generation
    with test-time views, its "centre" view, or the "ensemble" of all generations.
    """

    name: str
    part: str
    change: Callable[[Values], None]
    adds: bool = False
    figure: str = "last"

    @property
    def what(self) -> str:
        """What differs from the full form, in words."""
        words = str(self.change.__doc__)
        return words[0].lower() + words[1:].rstrip(".")


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
    """The labels alone, for as many steps as all generations together, with the same noise."""
    trainings = _trainings(values)
    trainings[0]["steps"] = _steps(values, trainings)
    values["generations"] = {}


def _supervised_strongly(values: Values) -> None:
    """The same, with labelled images augmented as strongly as unlabelled ones."""
    _supervised(values)
    values["teacher"]["train"]["labeled_augment"] = "strong"


def _no_data_noise(values: Values) -> None:
    """Students see images without augmentation."""
    for training in _student_trainings(values):
        training.update(labeled_augment="none", unlabeled_augment="none")


def _no_model_noise(values: Values) -> None:
    """Students without dropout and stochastic depth."""
    for part in values["generations"].values():
        model = part.setdefault("student", {}).setdefault("model", {})
        model.update(dropout_rate=0.0, stochastic_depth_rate=0.0)


def _select(values: Values, **changes: Any) -> None:
    for part in values["generations"].values():
        part["select"] = part.get("select", {}) | changes


def _one_generation(values: Values) -> None:
    """One student, taught by generation 0, for the steps of all students."""
    steps = _steps(values, _student_trainings(values))
    only = values["generations"]["1"]
    only["select"] = {}
    only["student"].setdefault("train", {})["steps"] = steps
    values["generations"] = {"1": only}


def _growing(values: Values) -> None:
    """The last student is one size larger instead of equal."""
    list(values["generations"].values())[-1].setdefault("student", {})["grow"] = 1


def _online(values: Values) -> None:
    """The last student teaches itself after 30 % of its steps."""
    _student_trainings(values)[-1]["online"] = {}


def _offline(values: Values) -> None:
    """The student learns the stored predictions of generation 0 throughout."""
    for training in _student_trainings(values):
        training["online"] = None


def _hard(values: Values) -> None:
    """The teacher's most likely class instead of its probabilities."""
    _select(values, label_kind="hard")


def _quotas(values: Values) -> None:
    """Equally many of each class, the most confident first, rare ones repeated, no alignment."""
    _select(values, distribution_alignment="none", fraction_per_class=1.0)


def _threshold(values: Values) -> None:
    """Only predictions with a confidence of 0.9 or more, without quotas."""
    _select(values, confidence_threshold=0.9, fraction_per_class=None)


def _no_balancing(values: Values) -> None:
    """All predictions unchanged, without alignment or quotas."""
    _select(values, fraction_per_class=None, distribution_alignment="none")
    for training in _student_trainings(values):
        if training.get("online") is not None:
            training["online"] = training["online"] | {"distribution_alignment": False}


def _surest_first(values: Values) -> None:
    """The most confident half of each class in generation 1, more in each, all in the last."""
    generations = list(values["generations"].values())
    for number, part in enumerate(generations):
        share = (1 + number / max(1, len(generations) - 1)) / 2  # half at first, all at last
        part["select"] = part.get("select", {}) | {"fraction_per_class": round(share, 2)}


def _full(values: Values) -> None:
    """The preset; the last generation with test-time views."""


def _centre(values: Values) -> None:
    """The same runs with one centre view."""


def _ensemble(values: Values) -> None:
    """The same runs, all generations averaged; the other rows use the last alone."""


FULL = Row("full", "all of it", _full)
ROWS = (
    FULL,
    Row("supervised", "self-training", _supervised),
    Row("supervised, strong noise", "self-training", _supervised_strongly),
    Row("no data noise", "data noise", _no_data_noise),
    Row("no model noise", "model noise", _no_model_noise),
    Row("hard labels", "soft labels", _hard),
    Row("no balancing", "balancing", _no_balancing),
    Row("quotas", "balancing by quotas alone", _quotas, adds=True),
    Row("threshold", "a threshold", _threshold, adds=True),
    Row("surest first", "choosing the surest first", _surest_first, adds=True),
    Row("one generation", "repeating", _one_generation),
    Row("growing student", "a growing student", _growing, adds=True),
    Row("online teacher", "an online teacher", _online, adds=True),
    Row("offline teacher", "an online teacher", _offline),
    Row("no test-time views", "averaging over views", _centre, figure="centre"),
    Row("ensemble", "the ensemble", _ensemble, adds=True, figure="ensemble"),
)
GENERATIONS = tuple(
    row.name for row in ROWS if row.name not in ("supervised, strong noise", "offline teacher")
)
MAIN = (
    *("full", "supervised", "no data noise", "no model noise", "hard labels", "no balancing"),
    *("one generation", "no test-time views", "ensemble"),
)
ONLINE = ("full", "supervised", "supervised, strong noise", "offline teacher", "no test-time views")
