"""Several models as one: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.errors import DataError
from pipeline.evaluate.metrics import Floats


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
    old = average.astype(np.float64) + np.log(count)
    mixed: Floats = np.logaddexp(old, member.astype(np.float64)) - np.log(count + 1)
    return mixed.astype(member.dtype)
