"""Several models as one: the champion, and an ensemble of all, chosen on validation images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluate.champion import choose_champion
from pipeline.evaluate.result import Evaluation, ModelResult, evaluate, flat_metrics
from pipeline.memory import joined
from pipeline.tasks import Task
from pipeline.tasks.metrics import ROWS_AT_ONCE
from pipeline.tasks.task import Array

ROUNDS = 30
MOST_CHOOSING = 50_000  # validation images that weights are chosen on, evenly spaced
LOSS_DIGITS = 6


def merged(
    task: Task, members: Mapping[str, Array], weights: Mapping[str, float], num_classes: int
) -> Array:
    """The predictions of members with a weight as one, ROWS_AT_ONCE images in memory; raises
    DataError where they do not fit."""
    parts = [members[key] for key, weight in weights.items() if weight > 0]
    shares, count = [weight for weight in weights.values() if weight > 0], len(parts[0])
    if count <= ROWS_AT_ONCE or len({len(part) for part in parts}) > 1:
        return task.merge(parts, shares, num_classes)
    starts = range(0, count, ROWS_AT_ONCE)
    slices = ([part[start : start + ROWS_AT_ONCE] for part in parts] for start in starts)
    return joined(task.merge(some, shares, num_classes) for some in slices)


def greedy_weights(
    task: Task,
    members: Mapping[str, Array],
    targets: Array,
    num_classes: int,
    *,
    rounds: int = ROUNDS,
) -> dict[str, float]:
    """Weights by forward selection with replacement (Caruana et al. 2004), by member.

    members: predictions (N, …) of validation images, in order of generation; targets: (N, …).
    Each round adds the member that leaves the average with the best score, of equals with the
    lowest loss, of equals one that is already in, then the later generation. Of all rounds the
    best is taken, of equals that of fewer members. Simulated with four calibrated members, on
    fresh images against equal weights: with members about as good as each other it loses 1.1
    points of accuracy when 30 images choose, 0.3 with 300 and none with 1,000; where two are far
    worse it gains 0.2, 0.5 and 0.6. Raises DataError for labels that do not fit.
    """
    counts, average = dict.fromkeys(members, 0), next(iter(members.values()))
    scored: list[tuple[tuple[float, float, int], dict[str, int]]] = []
    for size in range(rounds):
        old = {"": size / (size + 1)}
        grown = {
            key: merged(task, {"": average, key: each}, old | {key: 1 / (size + 1)}, num_classes)
            for key, each in members.items()
        }
        scores = {key: _cost(task, each, targets, num_classes) for key, each in grown.items()}
        equals = [key for key in members if scores[key] == min(scores.values())]
        key = max(equals, key=lambda name: (counts[name] > 0, list(members).index(name)))
        average, counts = grown[key], counts | {key: counts[key] + 1}
        scored.append(((*scores[key], sum(map(bool, counts.values()))), counts))
    best = min(scored, key=lambda entry: entry[0])[1]
    return {key: count / sum(best.values()) for key, count in best.items()}


def _cost(task: Task, predictions: Array, targets: Array, num_classes: int) -> tuple[float, float]:
    """Score, the less the better, and loss; rounded, so that float rounding decides nothing."""
    score = task.scores(task.evidence(predictions, targets, num_classes)).score
    loss = float(task.losses(predictions, targets, num_classes).mean(dtype=np.float64))
    return -score, round(loss, LOSS_DIGITS)


@dataclass(frozen=True)
class EnsembleResult:
    """The champion and why, the weights of the ensemble (empty: there is none), its figures."""

    champion: str
    champion_reason: str
    weights: dict[str, float]
    test: Evaluation | None
    validation: Evaluation | None

    def metrics(self, task: Task) -> dict[str, float]:
        """The flat figures of the metrics file."""
        return flat_metrics(task, self.test, validation=self.validation) if self.test else {}

    @property
    def members(self) -> dict[str, float]:
        """The models that count and their weights; the champion where there is no ensemble."""
        counting = {key: weight for key, weight in self.weights.items() if weight > 0}
        return counting or {self.champion: 1.0}

    def to_json(self, task: Task) -> dict[str, Any]:
        """All but the validation figures as a JSON value."""
        return {
            "champion": self.champion,
            "champion_reason": self.champion_reason,
            "weights": self.weights,
            "test": self.test and self.test.to_json(task),
        }


def judge_ensemble(
    task: Task,
    results: Mapping[str, ModelResult],
    method: str,
    *,
    candidates: Mapping[str, ModelResult],
    interval: float,
) -> EnsembleResult:
    """Choose on the validation images, then measure on test.

    results: by model, those of the ensemble; candidates: those that can be champion, controls
    first, then the generations in order. method: "equal", "greedy" or "none". Greedy is equal where
    there are no validation images.
    """
    evidence = {key: result.validation_evidence(task) for key, result in candidates.items()}
    champion, reason = choose_champion(task, evidence)
    first = next(iter(results.values()))
    validation = {key: result.validation_predictions for key, result in results.items()}
    judged = all(len(each) == len(first.validation_targets) for each in validation.values())
    known = first.validation_targets if judged else first.validation_targets[:0]
    test = {key: result.test_predictions for key, result in results.items()}
    weights = {} if method == "none" else dict.fromkeys(results, 1 / len(results))
    if method == "greedy" and len(known):
        some = slice(None, None, -(-len(known) // MOST_CHOOSING))
        choosing = {key: each[some] for key, each in validation.items()}
        weights = greedy_weights(task, choosing, known[some], first.num_classes)

    def figures(members: Mapping[str, Array], targets: Array) -> Evaluation | None:
        if not weights or not len(targets):
            return None
        together = merged(task, members, weights, first.num_classes)
        return evaluate(task, together, targets, first.num_classes, interval=interval)

    return EnsembleResult(
        champion=champion,
        champion_reason=reason,
        weights=weights,
        test=figures(test, first.test_targets),
        validation=figures(validation, known),
    )
