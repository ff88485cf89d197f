"""What a generation says of the balancing target replaces the shared one; workers share a batch."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pipeline.errors import ParameterError
from pipeline.params import parse_params
from tests.integration.project import SMALL


def _values() -> Any:
    return copy.deepcopy(SMALL)


def test_a_generation_s_fraction_replaces_a_shared_number_of_images() -> None:
    values = _values()
    values["select"] = {"images_per_class": 40}
    values["generations"]["1"]["select"] = {"fraction_per_class": 0.5}
    chosen = parse_params(values).selection("1")
    assert (chosen.images_per_class, chosen.fraction_per_class) == (None, 0.5)


def test_a_generation_s_number_of_images_replaces_a_shared_fraction() -> None:
    values = _values()
    values["generations"]["1"]["select"] = {"images_per_class": 7}
    chosen = parse_params(values).selection("1")
    assert (chosen.images_per_class, chosen.fraction_per_class) == (7, None)


def test_a_batch_that_the_workers_cannot_share_is_refused_before_any_work() -> None:
    values = _values()
    values["train"]["workers"] = 3
    with pytest.raises(ParameterError, match=r"train\.batch_size = 32: .*train\.workers = 3"):
        parse_params(values)
