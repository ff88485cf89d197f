"""The benchmark of corrections adds what it says, and measures every way at the same budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import corrections, runs
from benchmarks.corrections import (
    BEFORE,
    WAYS,
    Scene,
    answered,
    measured,
    picked,
    run_params,
)
from pipeline.self_training.loop import Images


def patches(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ten classes of 28-pixel images, each a bright square of a side of its own on noise."""
    labels = torch.arange(count) % 10
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 40, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, : 2 * label + 4, : 2 * label + 4] += 160
    return images, labels


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
def test_every_way_is_measured_once_and_a_stopped_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "KEPT", tmp_path)
    params = run_params(0, steps=2)
    found = measured(scene(), params, seed=0, clicks=(4,))
    assert list(found) == [BEFORE, *(f"{way} 4" for way in WAYS)]
    for path in tmp_path.glob("*-random-*"):
        path.unlink()
    assert measured(scene(), params, seed=0, clicks=(4,)) == found
    monkeypatch.setattr(corrections, "outcome", None)
    assert measured(scene(), params, seed=0, clicks=(4,)) == found
