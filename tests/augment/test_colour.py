"""Each colour operation against torchvision's, image by image, or a slow loop of its paper."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from pipeline.augment import colour
from pipeline.augment.histogram import autocontrast, equalize
from tests.augment.images import levels, most_apart, shares

FACTORS = torch.tensor([0.1, 0.7, 1.0, 1.9])
STRENGTHS = {
    "brightness": FACTORS,
    "contrast": FACTORS,
    "saturation": FACTORS,
    "sharpness": FACTORS,
    "posterize": torch.tensor([0.0, 2.0, 5.0, 8.0]),
    "solarize": torch.tensor([0.0, 0.3, 0.5, 1.0]),
}
OURS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": colour.brightness,
    "contrast": colour.contrast,
    "saturation": colour.saturation,
    "sharpness": colour.sharpness,
    "posterize": colour.posterize,
    "solarize": colour.solarize,
}
THEIRS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "brightness": reference.adjust_brightness,
    "contrast": reference.adjust_contrast,
    "saturation": reference.adjust_saturation,
    "sharpness": reference.adjust_sharpness,
    "posterize": lambda image, bits: reference.posterize(image, int(bits)),
    "solarize": lambda image, share: reference.solarize(
        image, share * (255 if image.dtype == torch.uint8 else 1)
    ),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OURS)
def test_equals_torchvision(name: str, channels: int) -> None:
    for images, allowed in ((levels(4, channels), 1), (shares(4, channels), 1e-5)):
        before = images.clone()
        expected = [
            THEIRS[name](image, float(x)) for image, x in zip(images, STRENGTHS[name], strict=True)
        ]
        result = OURS[name](images, STRENGTHS[name])
        assert most_apart(result, torch.stack(expected)) <= allowed
        assert torch.equal(images, before)
        if name != "saturation" or channels == 3:
            assert not torch.equal(result[0], images[0])


def test_solarize_and_posterize_of_levels_are_exact() -> None:
    every_level = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    for share in (0.0, 0.25, 0.5, 2 / 3, 1.0):
        expected = reference.solarize(every_level[0], share * 255)
        assert torch.equal(colour.solarize(every_level, torch.tensor([share]))[0], expected)
    for bits in range(9):
        expected = reference.posterize(every_level[0], bits)
        assert torch.equal(colour.posterize(every_level, torch.tensor([bits]))[0], expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("ours", "theirs"), [(equalize, reference.equalize), (autocontrast, reference.autocontrast)]
)
def test_histogram_operations_equal_torchvision(
    ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], channels: int
) -> None:
    images = levels(5, channels, 40, 44) // 2 + 30
    images[4] = 77  # one flat image: both leave it
    for batch, allowed in ((images, 1), (images.float() / 255, 1e-5)):
        result = ours(batch)
        assert most_apart(result, torch.stack([theirs(image) for image in batch])) <= allowed
        assert torch.equal(result[4], batch[4])
        assert float(result[0].double().std()) > 1.2 * float(batch[0].double().std())
    assert torch.equal(equalize(images), reference.equalize(images))


def test_equalize_leaves_images_with_fewer_pixels_than_levels() -> None:
    images = levels(2, 1, 15, 16)
    assert torch.equal(equalize(images), reference.equalize(images))


def test_tiny_images_can_not_be_sharpened() -> None:
    images = levels(2, 3, 2, 9)
    assert torch.equal(colour.sharpness(images, torch.tensor([0.0, 1.9])), images)


def test_colour_shift_adds_to_each_channel() -> None:
    amount = torch.tensor([[0.1, -0.2, 0.0], [1.0, 0.0, -1.0]])
    for images, white in ((levels(2), 255), (shares(2), 1)):
        expected = images.double() + amount[:, :, None, None].double() * white
        result = colour.colour_shift(images, amount)
        assert result.dtype == images.dtype
        assert float((result - expected.clamp(0, white)).abs().max()) <= (
            1 if white == 255 else 1e-6
        )


def test_pca_colour_shift_equals_the_papers_loop() -> None:
    images = shares(3)
    weights = torch.tensor([[0.1, -0.1, 0.2], [0.0, 0.3, 0.0], [-0.2, 0.0, 0.1]])
    values, vectors = torch.linalg.eigh(torch.cov(images.permute(1, 0, 2, 3).flatten(1)))
    expected = images.clone()
    for n in range(3):
        for channel in range(3):
            shift = sum(
                float(vectors[channel, k] * weights[n, k] * values[k].sqrt()) for k in range(3)
            )
            expected[n, channel] += shift
    result = colour.pca_colour_shift(images, weights, vectors * values.sqrt())
    assert most_apart(result, expected.clamp(0, 1)) < 1e-5
    assert not torch.equal(result, images)


def test_imagenets_axes_are_orthogonal_and_grey_is_left_alone() -> None:
    axes = torch.tensor(colour.IMAGENET_AXES)
    directions = axes / axes.norm(dim=0)
    assert torch.allclose(directions.T @ directions, torch.eye(3), atol=1e-3)
    grey = shares(2, 1)
    assert torch.equal(colour.pca_colour_shift(grey, torch.ones(2, 3)), grey)
    assert not torch.equal(colour.pca_colour_shift(shares(2), torch.ones(2, 3)), shares(2))
