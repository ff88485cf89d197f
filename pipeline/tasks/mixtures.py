"""Several models' predictions as one: a weighted mean of their probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from pipeline.errors import DataError
from pipeline.tasks.metrics import Floats

Key = TypeVar("Key")


def average_log_probs(members: Sequence[Floats]) -> Floats:
    """Log of the equal-weight mean of the members' probabilities; each member: (N, K).

    Raises DataError for no members, or members of different shape.
    """
    if not members:
        raise DataError("an ensemble needs at least one model's predictions")
    average = members[0]
    for count, member in enumerate(members[1:], start=1):
        average = add_member(average, count, member)
    return average


def weighted_log_probs(members: Mapping[Key, Floats], weights: Mapping[Key, float]) -> Floats:
    """Log of the mean of the members' probabilities with these weights of sum 1; each: (N, K).

    Members without a weight have none. Raises DataError as average_log_probs.
    """
    parts = [(members[key], weight) for key, weight in weights.items() if weight > 0]
    if len({weight for _, weight in parts}) <= 1:
        return average_log_probs([member for member, _ in parts])
    if len({member.shape for member, _ in parts}) > 1:
        raise DataError("the members of an ensemble must be of the same images and classes")
    scaled = [member.astype(np.float64) + np.log(weight) for member, weight in parts]
    mixed: Floats = np.logaddexp.reduce(scaled).astype(parts[0][0].dtype)
    return mixed


def add_member(average: Floats, count: int, member: Floats) -> Floats:
    """The average of `count` + 1 members, from that of the first `count` and one more.

    So an ensemble grows along a chain of stages that each know one model. Arrays: (N, K) of
    log-probabilities. Raises DataError for different shapes.
    """
    if average.shape != member.shape:
        raise DataError(
            f"an ensemble of predictions of shape {average.shape} can't take one of "
            f"{member.shape}; all must be of the same images and classes"
        )
    if count == 0:
        return member
    old = average.astype(np.float64) + np.log(count)
    mixed: Floats = np.logaddexp(old, member.astype(np.float64)) - np.log(count + 1)
    return mixed.astype(member.dtype)
