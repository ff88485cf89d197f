"""Parameters of actors and workers: every number of workers that is allowed must share a batch."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.params import RunParams, TrainParams


@pytest.mark.parametrize(("actors", "both"), [(3, (3, 3)), ([1, 4], (1, 4)), ([2, 2], (2, 2))])
def test_actors_are_a_number_or_a_range(actors: Any, both: tuple[int, int]) -> None:
    assert RunParams(actors=actors).actor_range == both


@pytest.mark.parametrize("actors", [0, True, "2", None, 1.5, [], [1], [0, 2], [3, 2], [1, 2, 3]])
def test_other_actors_are_refused(actors: Any) -> None:
    with pytest.raises(ValidationError, match=r"run\.actors = .*a number from 1, or \[fewest"):
        RunParams(actors=actors)


@pytest.mark.parametrize("gpus", [0, -1, 1.5])
def test_a_share_of_a_gpu_is_at_most_one(gpus: float) -> None:
    with pytest.raises(ValidationError):
        RunParams(gpus_per_actor=gpus)
    with pytest.raises(ValidationError):
        TrainParams(steps=1, gpus_per_worker=gpus)


def test_workers_without_a_least_number_stay_as_many() -> None:
    assert list(TrainParams(steps=1).world_sizes) == [1]
    assert list(TrainParams(steps=1, workers=4).world_sizes) == [4]
    assert list(TrainParams(steps=1, batch_size=12, workers=4, min_workers=2).world_sizes) == [
        2,
        3,
        4,
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"batch_size": 10, "workers": 4}, "multiple of 4, train.workers = 4"),
        (
            {"batch_size": 8, "workers": 4, "min_workers": 2},
            "multiple of 3, a number of workers that train.min_workers = 2 allows",
        ),
        ({"workers": 2, "min_workers": 3}, "train.min_workers = 3: at most train.workers = 2"),
        ({"sync_batchnorm": True, "device": "cpu"}, "torch has it for GPUs only"),
    ],
)
def test_what_workers_cannot_share_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainParams(steps=1, **values)
    assert said in str(caught.value)
