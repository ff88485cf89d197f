"""Corruptions against loops over pixels where there is arithmetic, and by what they do at large."""

from __future__ import annotations

import io
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pipeline.errors import ParameterError
from pipeline.evaluate import corruptions
from pipeline.evaluate.corruptions import CORRUPTIONS, SEVERITIES, corrupt, corruption_names
from pipeline.evaluate.robustness import corrupted

NOISE = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")


def photos(images: int = 6, channels: int = 3, side: int = 20) -> Tensor:
    """Smooth blobs of colour, neither black nor white."""
    generator = torch.Generator().manual_seed(0)
    knots = torch.rand((images, channels, 4, 4), generator=generator) * 0.6 + 0.2
    smooth = torch.nn.functional.interpolate(knots, (side, side), mode="bicubic")
    return (smooth * 255).round().clamp(0, 255).byte()


def source() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_there_are_twelve_and_more_of_every_kind() -> None:
    assert len(corruption_names(1)) >= 12
    assert set(corruption_names(3)) - set(corruption_names(1)) == {"saturate"}
    assert all(len(strengths) == len(SEVERITIES) for _, strengths in CORRUPTIONS.values())


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize(("channels", "side"), [(3, 20), (1, 9), (3, 33)])
def test_images_stay_images_and_change(name: str, channels: int, side: int) -> None:
    images = photos(3, channels, side)
    before = images.clone()
    for severity in SEVERITIES:
        result = corrupt(images, name, severity, source())
        assert (result.shape, result.dtype) == (images.shape, torch.uint8)
        assert torch.equal(images, before)
        changes = name in corruption_names(channels)
        assert [not torch.equal(a, b) for a, b in zip(result, images, strict=True)] == [changes] * 3
    assert corrupt(images[:0], name, 1, source()).shape == (0, channels, side, side)


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name != "saturate"])
def test_a_higher_severity_changes_more(name: str) -> None:
    images = photos(24)
    changes = [
        float((corrupted(images, name, severity, seed=3).float() - images).square().mean())
        for severity in SEVERITIES
    ]
    steps = pairwise(changes)
    assert all(worse > 0.9 * slighter > 0 for slighter, worse in steps)  # squares don't nest
    assert changes[-1] > 2 * changes[0]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_seed_gives_the_same_images(name: str) -> None:
    images = photos()
    first, same = (corrupted(images, name, 3, seed=5) for _ in range(2))
    assert torch.equal(first, same)
    random = name in (*NOISE, "motion_blur", "fog", "snow", "elastic")
    assert torch.equal(first, corrupted(images, name, 3, seed=6)) != random


def test_noise_has_the_spread_it_says() -> None:
    grey = torch.full((40, 1, 30, 30), 128 / 255)
    for change, strength, expected in (
        (corruptions.gaussian_noise, 0.1, 0.1),
        (corruptions.speckle_noise, 0.1, 0.1 * 128 / 255),
        (corruptions.shot_noise, 50.0, math.sqrt(128 / 255 / 50)),
    ):
        result = change(grey, strength, source())
        assert float(result.mean()) == pytest.approx(128 / 255, abs=2e-3)
        assert float(result.std()) == pytest.approx(expected, rel=0.02)
    salted = corruptions.impulse_noise(grey, 0.2, source())
    assert float((salted == 0).float().mean()) == pytest.approx(0.1, abs=0.005)
    assert float((salted == 1).float().mean()) == pytest.approx(0.1, abs=0.005)


def test_defocus_is_a_mean_over_a_disc() -> None:
    images = photos(2, 2, 12).double() / 255
    result = corruptions.defocus_blur(images.float(), 0.15, source())
    radius = 0.5 + 0.15 * 12
    for y, x in ((0, 0), (5, 6), (11, 3)):
        total, weights = torch.zeros(2, 2, dtype=torch.float64), 0.0
        for dy in range(-4, 5):
            for dx in range(-4, 5):
                weight = min(max(radius + 0.5 - math.hypot(dy, dx), 0.0), 1.0)
                row, column = min(max(y + dy, 0), 11), min(max(x + dx, 0), 11)
                total += weight * images[:, :, row, column]
                weights += weight
        torch.testing.assert_close(result[:, :, y, x].double(), total / weights, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur", "zoom_blur", "pixelate"])
def test_blurs_leave_a_plain_image_alone(name: str) -> None:
    plain = torch.full((2, 3, 16, 16), 90, dtype=torch.uint8)
    assert torch.equal(corrupt(plain, name, 5, source()), plain)


def test_motion_spreads_a_dot_over_its_line() -> None:
    dot = torch.zeros(1, 1, 41, 41)
    dot[..., 20, 20] = 1
    result = corruptions.motion_blur(dot, 0.5, source())[0, 0]
    places = result.nonzero().float() - 20
    assert float(result.sum()) == pytest.approx(1, abs=1e-4)
    assert float(places.norm(dim=1).max()) == pytest.approx(10, abs=1.5)  # half of 0.5 · 41
    normal = torch.linalg.svd(places * result[result > 0].sqrt()[:, None])[2][1]
    assert float((places @ normal).abs().max()) < 1.5  # all on one line


def test_contrast_and_pixelate_are_the_formula() -> None:
    images = photos(2, 3, 8).float() / 255
    flat = corruptions.contrast(images, 0.3, source())
    for image, result in zip(images, flat, strict=True):
        for channel, changed in zip(image, result, strict=True):
            torch.testing.assert_close(changed, channel.mean() + 0.3 * (channel - channel.mean()))
    squares = corruptions.pixelate(images, 0.5, source())
    for row in range(8):
        for column in range(8):
            y, x = row // 2 * 2, column // 2 * 2
            block = images[..., y : y + 2, x : x + 2].mean(dim=(-2, -1))
            torch.testing.assert_close(squares[..., row, column], block)


def test_fog_keeps_the_range_and_its_clouds_span_it() -> None:
    black = torch.zeros(4, 1, 20, 20)
    clouds = corruptions.fog(black, 1.0, source()) * 2
    torch.testing.assert_close(clouds.amax(dim=(1, 2, 3)), torch.ones(4))
    torch.testing.assert_close(clouds.amin(dim=(1, 2, 3)), torch.zeros(4))
    assert float(corruptions.fog(torch.ones(1, 1, 9, 9), 2.0, source()).max()) <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillow_s_image_by_image(channels: int) -> None:
    images = photos(3, channels)
    result = corrupt(images, "jpeg", 4, source())
    for image, changed in zip(images, result, strict=True):
        pixels = image.permute(1, 2, 0).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels.squeeze()).save(file, "JPEG", quality=12)
        expected = np.asarray(Image.open(file)).reshape(pixels.shape)
        np.testing.assert_array_equal(changed.permute(1, 2, 0).numpy(), expected)


def test_unknown_names_and_severities_are_refused() -> None:
    with pytest.raises(ParameterError, match="'rain': there are gaussian_noise"):
        corrupt(photos(), "rain", 1, source())
    with pytest.raises(ParameterError, match="severity = 6: must be 1 to 5"):
        corrupt(photos(), "fog", 6, source())
