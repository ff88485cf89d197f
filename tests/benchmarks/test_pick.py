"""The benchmark of picks measures every way at the same budget, as stages.pick chooses."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.corrections import BEFORE, Outcome, Scene
from benchmarks.in_process import Images
from benchmarks.pick import CASES, WAYS, measured, picked, run_params, scene_of, table
from tests.benchmarks.test_distillation import patches


def scene() -> Scene:
    labeled, labels = patches(10, 0)
    unlabeled, truth = patches(60, 1)
    return Scene(Images(labeled, labels, unlabeled, *patches(40, 2), tuple("0123456789")), truth)


@pytest.mark.parametrize("way", WAYS)
def test_each_way_picks_as_many_different_images(way: str) -> None:
    seen = np.random.default_rng(0).dirichlet(np.ones(10), 60).astype(np.float32)
    rows = picked(way, scene(), Outcome(0.5, [seen]), 15, seed=1)
    assert len(set(rows)) == len(rows) == 15
    assert max(rows) < 60
    assert rows == picked(way, scene(), Outcome(0.5, [seen]), 15, seed=1)


def test_the_digits_start_with_one_label_a_class() -> None:
    found = scene_of(CASES[0], 0, None)
    assert sorted(found.images.labels.tolist()) == list(range(10))
    assert len(found.truth) == len(found.images.unlabeled)
    params = run_params(CASES[0], 3, steps=7)
    assert (params.training("0").train.steps, params.training("1").train.steps) == (7, 7)
    assert params.model_keys == ["0", "1"]
    assert params.selection("1").distribution_alignment == "none"


@pytest.mark.slow
def test_every_way_is_measured_and_the_table_says_the_gain() -> None:
    found = measured(scene(), run_params(CASES[2], 0, steps=2), seed=0, more=4)
    assert list(found) == [BEFORE, *WAYS]
    rows = [dict.fromkeys(WAYS, 0.75) | {BEFORE: 0.5}, dict.fromkeys(WAYS, 0.5) | {BEFORE: 0.25}]
    assert "| typical | 62.5 ± 158.8 | +25.0 ± 0.0 |" in table(rows)
