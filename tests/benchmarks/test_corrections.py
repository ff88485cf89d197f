"""The benchmark of corrections adds what it says, and measures every way at the same budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.corrections import (
    BEFORE,
    WAYS,
    Scene,
    answered,
    measured,
    picked,
    run_params,
    table,
)
from benchmarks.in_process import Images
from tests.benchmarks.test_distillation import patches


def scene() -> Scene:
    labeled, labels = patches(20, 0)
    unlabeled, truth = patches(60, 1)
    return Scene(Images(labeled, labels, unlabeled, *patches(40, 2), tuple("0123456789")), truth)


def test_answered_images_change_sides_with_their_truth() -> None:
    before = scene()
    after = answered(before, [7, 3])
    assert after.images.labels[-2:].tolist() == [7, 3]
    assert torch.equal(after.images.labeled[-1], before.images.unlabeled[3])
    assert len(after.images.unlabeled) == len(after.truth) == 58
    kept = [row for row in range(60) if row not in (3, 7)]
    assert torch.equal(after.images.unlabeled, before.images.unlabeled[kept])
    assert torch.equal(after.truth, before.truth[kept])


@pytest.mark.parametrize("way", WAYS)
def test_each_way_picks_as_many_different_images(way: str) -> None:
    draw = np.random.default_rng(0)
    teachers = [draw.dirichlet(np.ones(4), 50).astype(np.float32) for _ in range(2)]
    rows = picked(way, teachers, 20, seed=1)
    assert len(set(rows)) == len(rows) == 20
    assert rows == picked(way, teachers, 20, seed=1)


@pytest.mark.slow
def test_every_way_is_measured_and_the_table_says_the_gain() -> None:
    params = run_params(0, steps=2)
    found = measured(scene(), params, seed=0, clicks=(4,))
    assert list(found) == [BEFORE, *(f"{way} 4" for way in WAYS)]
    rows = [{BEFORE: 0.5, "offered 4": 0.75}, {BEFORE: 0.25, "offered 4": 0.5}]
    assert "| offered 4 | 62.5 ± 158.8 | +25.0 ± 0.0 |" in table(rows)
