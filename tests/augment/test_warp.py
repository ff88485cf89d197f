"""What a view says of its pixels' moves: masks follow their images, and an answer a second view."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from pipeline.augment import Draws, Warp, jitter, strong, weak
from pipeline.augment.geometry import affine_matrix
from pipeline.params import AugmentParams

SIDE, COUNT = 32, 24
GEOMETRIC = ("rotate", "shear_x", "translate_y", "scale", "perspective", "elastic")


def blobs(seed: int = 0, values: int = 3) -> Tensor:
    """Masks (COUNT, 1, SIDE, SIDE) of a few large areas of one value each."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(values, (COUNT, 1, 4, 4), generator=generator).float()
    return torch.nn.functional.interpolate(coarse, (SIDE, SIDE))


def draws(seed: int = 0) -> Draws:
    return Draws(seed, COUNT)


def plain(**changes: Any) -> AugmentParams:
    return AugmentParams(**({"shift": 0.0, "num_ops": 0} | changes))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("padding", ["reflect", "zeros"])
def test_a_shifted_mask_is_its_image_to_the_pixel(flip: bool, padding: Any) -> None:
    images, params = blobs() + 1, plain(shift=0.3, flip=flip, padding=padding)
    warp = Warp.of(images)
    seen = weak(images, draws(), params, warp)
    moved, known = warp.apply(images)
    assert torch.equal(moved[:, 0][known], seen[:, 0][known])
    if padding == "zeros":
        assert torch.equal(known, seen[:, 0] > 0)
    assert 0.5 < known.float().mean() < 1


@pytest.mark.parametrize(
    "params",
    [
        plain(crop="resized", flip=True),
        AugmentParams(num_ops=2, operations=GEOMETRIC, magnitude=15.0, flip=True),
        AugmentParams(num_ops=3, crop="resized", operations=GEOMETRIC, magnitude=15.0),
    ],
)
def test_an_image_of_its_masks_values_moves_as_the_mask(params: AugmentParams) -> None:
    """All but the pixels at an edge, where an image is between two values."""
    images = blobs(values=2) / 2 + 0.25
    warp = Warp.of(images)
    seen = strong(images, draws(), params, warp)
    moved, known = warp.apply(images)
    assert known.float().mean() > 0.4
    apart = (moved - seen).abs()[:, 0][known]
    assert (apart > 0.25).float().mean() < 0.02  # of another value
    assert (apart < 0.05).float().mean() > 0.75  # the same value


def test_what_is_erased_is_not_known() -> None:
    images, params = torch.ones(COUNT, 1, SIDE, SIDE), plain(cutout=0.4, erasing=0.5)
    images[:, :, ::2] = 0
    warp = Warp.of(images)
    seen = strong(images, draws(), params, warp)
    _, known = warp.apply(images)
    assert torch.equal(known, (seen == images)[:, 0])


def test_it_moves_as_torchvision_moves_masks() -> None:
    masks = blobs(values=5)
    angle, x, y = torch.tensor([20.0, -35.0]), torch.tensor([3.0, 0.0]), torch.tensor([-5.0, 2.0])
    scale = torch.tensor([1.2, 0.8])
    warp = Warp(SIDE, SIDE)
    warp.resample(affine_matrix(angle=angle, translate_x=x, translate_y=y, scale=scale))
    warp.shift(torch.zeros(2), torch.zeros(2), torch.tensor([False, True]))
    moved, known = warp.apply(masks[:2])
    for number in range(2):
        mask = tv_tensors.Mask(masks[number] + 1)
        mask = reference.affine(
            mask,
            angle=-float(angle[number]),
            translate=[float(x[number]), float(y[number])],
            scale=float(scale[number]),
            shear=[0.0, 0.0],
            interpolation=InterpolationMode.NEAREST,
        )
        if number:
            mask = reference.horizontal_flip(mask)
        ours = torch.where(known[number], moved[number, 0] + 1, 0)
        assert (ours != mask[0]).float().mean() < 0.01  # pixels between two


def test_it_crops_as_torchvision_crops_masks() -> None:
    masks, warp = blobs(values=5)[:1], Warp(SIDE, SIDE)
    warp.crop(torch.tensor([[4, 8, 20, 24]]), None)
    expected = reference.resized_crop(tv_tensors.Mask(masks[0]), 4, 8, 16, 16, [SIDE, SIDE])
    assert torch.equal(warp.apply(masks)[0][0], expected)


def test_an_answer_on_the_weak_view_comes_to_the_strong_one() -> None:
    images = blobs(values=4) / 4 + 0.1
    params = AugmentParams(num_ops=1, operations=("rotate",), flip=True)
    first, second = Warp.of(images), Warp.of(images)
    seen = weak(images, draws(1), params, first)
    strongly = strong(images, draws(2), params, second)
    moved, known = first.inverse().then(second).apply(seen)
    apart = (moved - strongly).abs()[:, 0][known]
    assert known.float().mean() > 0.5
    assert (apart < 0.05).float().mean() > 0.7
    straight, inside = second.apply(images)
    both = known & inside
    assert (straight == moved)[:, 0][both].float().mean() > 0.99
    back, _ = first.inverse().apply(seen)
    assert (back == images).float().mean() > 0.7
    second.erase(torch.zeros(COUNT, 4))
    with pytest.raises(ValueError, match="inverse"):
        second.inverse()


def test_a_coarser_answer_moves_in_its_own_pixels() -> None:
    warp = Warp(SIDE, SIDE)
    warp.shift(torch.tensor([4]), torch.tensor([0]), None)
    values = torch.arange(8.0).expand(1, 2, 8, 8)
    moved, known = warp.apply(values)
    assert moved[0, 0, 0].tolist() == [0, 0, 1, 2, 3, 4, 5, 6]
    assert known[0, 0].tolist() == [False] + [True] * 7


def test_a_jittered_view_says_how_it_moved() -> None:
    images = blobs(values=2) / 2 + 0.25
    warp = Warp.of(images)
    seen = jitter(images, draws(), warp)
    moved, known = warp.apply(images)
    assert ((moved - seen).abs()[:, 0][known] < 0.05).float().mean() > 0.75
