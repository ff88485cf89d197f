"""What is said of each pixel in a view goes back to where the image has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.data.class_maps import IGNORED, pack_maps
from pipeline.evaluate.views import iter_log_probs, predict, views_of
from pipeline.params import ViewParams
from pipeline.tasks import open_task

TASK = open_task("segmentation")
SIDE = 32
HOW: dict[str, Any] = {"mean": [0.0], "std": [1.0]}


class ByPixel(nn.Module):
    """Says of each pixel by its grey level alone which of three classes it has."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([-((images - level) ** 2) * 40 for level in (0.2, 0.5, 0.8)], dim=1)


class ByPlace(nn.Module):
    """Says the same of each place of a view, whatever it shows: class 1 in its left half."""

    def forward(self, images: Tensor) -> Tensor:
        left = torch.full_like(images, -8)
        left[..., : SIDE // 2] = 8
        return torch.cat([-left, left, -9 + 0 * left], dim=1)


def waves(count: int = 3) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Images (N, 1, S, S) uint8 of smooth waves, each of its own phase."""
    places = torch.arange(SIDE) / SIDE * 2 * torch.pi
    phases = torch.arange(count)[:, None, None]
    grey = 0.5 + 0.25 * torch.sin(places + phases) + 0.2 * torch.cos(places[:, None] - phases)
    return np.asarray((grey[:, None] * 255).round().byte().numpy())


@pytest.mark.parametrize("views", ["flip", "five_crop", "ten_crop", "multi_scale", "jitter"])
def test_who_judges_by_the_pixel_says_the_same_in_every_view(views: Any) -> None:
    images = torch.from_numpy(waves()).float() / 255
    plain = ByPixel()(images).softmax(dim=1)
    exact = views in ("flip", "five_crop", "ten_crop")
    for view in views_of(images, ViewParams(views=views, jitter_views=4), seed=3):
        scores = ByPixel()(view.images).log_softmax(dim=1)
        undone = TASK.undo(scores, view.undo).exp()
        if not torch.equal(view.images, images):
            assert (scores.exp() - plain).abs().max() > 0.12
        seen = (undone > 0).any(dim=1, keepdim=True)
        inner = torch.zeros_like(seen)
        inner[..., 4:-4, 4:-4] = True
        assert seen[..., 4:-4, 4:-4].all()
        chosen = (seen if exact else seen & inner).expand_as(plain)
        torch.testing.assert_close(
            undone[chosen], plain[chosen], atol=1e-6 if exact else 0.06, rtol=0
        )


@pytest.mark.parametrize("views", ["flip", "five_crop", "ten_crop", "multi_scale", "jitter"])
def test_the_average_of_the_views_is_what_one_would_say(views: Any) -> None:
    images, params = waves(), ViewParams(views=views, jitter_views=4, batch_size=2)
    averaged = torch.cat(list(iter_log_probs(ByPixel(), images, TASK, views=params, **HOW)))
    plain = torch.cat(list(iter_log_probs(ByPixel(), images, TASK, **HOW)))
    torch.testing.assert_close(
        averaged.exp().sum(dim=1), torch.ones(3, SIDE, SIDE), atol=1e-4, rtol=0
    )
    inner = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(averaged.exp()[inner], plain.exp()[inner], atol=0.03, rtol=0)
    np.testing.assert_array_equal(
        predict(ByPixel(), images, TASK, views=params, **HOW), pack_maps(averaged)
    )


def test_mirrored_places_are_mirrored_back() -> None:
    flip = ViewParams(views="flip")
    (scores,) = iter_log_probs(ByPlace(), waves(1), TASK, views=flip, **HOW)
    torch.testing.assert_close(scores.exp()[:, :2], torch.full((1, 2, SIDE, SIDE), 0.5))


@pytest.mark.parametrize("batch_size", [1, 2, 512])
def test_what_a_crop_does_not_show_has_no_vote(batch_size: int) -> None:
    crops = ViewParams(views="five_crop", batch_size=batch_size)
    scores = torch.cat(list(iter_log_probs(ByPlace(), waves(2), TASK, views=crops, **HOW))).exp()
    margin, half = SIDE // 8, SIDE // 2
    for column in range(SIDE):
        votes = [column < half]
        for move in (-margin, margin):
            place = column - move
            votes += [place < half] * 2 if 0 <= place < SIDE else []
        if margin <= column < SIDE - margin:
            expected = torch.full((2,), sum(votes) / len(votes))
            row = scores[:, 1, SIDE // 2, column]
            torch.testing.assert_close(row, expected, atol=1e-4, rtol=0)
    assert torch.isfinite(scores).all()


def test_predictions_are_maps_of_every_image() -> None:
    found = predict(ByPixel(), waves(5), TASK, views=ViewParams(batch_size=2), **HOW)
    assert found.shape == (5, 4, SIDE, SIDE)
    assert found.dtype == np.uint8
    assert (found[:, 0] != IGNORED).all()
