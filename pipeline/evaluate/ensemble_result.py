"""All generations side by side: the champion among them, and what they are worth as one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.evaluate.champion import choose_champion
from pipeline.evaluate.ensemble import equal_weights, greedy_weights, weighted_log_probs
from pipeline.evaluate.metrics import correct
from pipeline.evaluate.result import Evaluation, evaluate, evaluation_to_json, flat_metrics
from pipeline.evaluate.run import ModelResult


@dataclass(frozen=True)
class EnsembleResult:
    """The champion and why, the weights of the ensemble (empty: there is none), its figures."""

    champion: str
    champion_reason: str
    weights: dict[str, float]
    test: Evaluation | None
    validation: Evaluation | None

    @property
    def metrics(self) -> dict[str, float]:
        """The flat figures of the metrics file."""
        return flat_metrics(self.test, validation=self.validation) if self.test else {}

    @property
    def members(self) -> dict[str, float]:
        """The models that count and their weights; the champion where there is no ensemble."""
        counting = {key: weight for key, weight in self.weights.items() if weight > 0}
        return counting or {self.champion: 1.0}

    def to_json(self) -> dict[str, Any]:
        """All but the validation figures as a JSON value."""
        return {
            "champion": self.champion,
            "champion_reason": self.champion_reason,
            "weights": self.weights,
            "test": self.test and evaluation_to_json(self.test),
        }


def judge_ensemble(
    results: Mapping[str, ModelResult],
    method: str,
    *,
    generations: Sequence[str],
    interval: float,
) -> EnsembleResult:
    """Choose on the validation images, then measure on test.

    results: by model; generations: those of them that can be champion, in order, while the ensemble
    is of all. method: "equal", "greedy" or "none". Greedy is equal where there are no
    validation images.
    """
    rights = {
        key: None
        if results[key].validation is None
        else correct(results[key].validation_log_probs, results[key].validation_labels)
        for key in generations
    }
    champion, reason = choose_champion(rights)
    first = next(iter(results.values()))
    checked = {key: result.validation_log_probs for key, result in results.items()}
    judged = all(len(each) == len(first.validation_labels) for each in checked.values())
    known = first.validation_labels if judged else first.validation_labels[:0]
    seen = {key: result.test_log_probs for key, result in results.items()}
    weights = {} if method == "none" else equal_weights(list(results))
    if method == "greedy" and len(known):
        weights = greedy_weights(checked, known)

    def figures(members: Mapping[str, Any], labels: Any) -> Evaluation | None:
        if not weights or not len(labels):
            return None
        return evaluate(weighted_log_probs(members, weights), labels, interval=interval)

    return EnsembleResult(
        champion=champion,
        champion_reason=reason,
        weights=weights,
        test=figures(seen, first.test_labels),
        validation=figures(checked, known),
    )
