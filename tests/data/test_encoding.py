"""What is a photograph, and what becomes of its pixels."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipeline.data.decoding import decode_images
from pipeline.data.encoding import encode_jpeg, encode_png, format_of, is_whole
from pipeline.data.fit import place_of
from pipeline.data.images import StoredImage, decode_stored, store
from tests.data.helpers import Pixels, encoded, noise

SIDES = (96, 128, 224)
DRAWN = 4  # times the side, then shrunk, so that outlines are smooth


def photograph(side: int, seed: int = 0) -> Pixels:
    """RGB pixels whose amplitudes fall as 1/f, and whose channels are alike, as in photographs."""
    generator = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = 1
    white = np.fft.fft2(generator.normal(size=(4, side, side)))
    shared, *own = np.fft.ifft2(white / frequency).real
    channels = np.stack([shared + 0.4 * each for each in own], axis=-1)
    pixels: Pixels = (128 + 50 * channels / channels.std()).clip(0, 255).astype(np.uint8)
    return pixels


def drawing(side: int, seed: int = 0) -> Pixels:
    """Filled shapes with outlines on white."""
    generator = np.random.default_rng(seed)
    image = Image.new("RGB", (DRAWN * side, DRAWN * side), "white")
    draw = ImageDraw.Draw(image)
    for number in range(8):
        left, top, width, *colour = generator.integers(0, 256, 6).tolist()
        corner = (left * DRAWN * side // 256, top * DRAWN * side // 256)
        box = (*corner, corner[0] + 2 * width, corner[1] + width)
        shape = draw.ellipse if number % 2 else draw.rectangle
        shape(box, fill=tuple(colour), outline="black", width=3 * DRAWN)
    return np.array(image.resize((side, side), Image.Resampling.BICUBIC))


def text(side: int, seed: int = 0) -> Pixels:
    """Small letters in one colour, line below line."""
    generator = np.random.default_rng(seed)
    image = Image.new("RGB", (2 * side, 2 * side), "white")
    draw = ImageDraw.Draw(image)
    for top in range(0, 2 * side, 14):
        draw.text((3, top), "".join(generator.choice(list("abcdefgh ijklm"), 60)), fill=(9, 9, 90))
    return np.array(image.resize((side, side), Image.Resampling.BICUBIC))


def ramp(side: int) -> Pixels:
    """Colours that change evenly."""
    down, across = np.mgrid[:side, :side] * 255 / side
    return np.stack([across, down, (across + down) / 2], axis=-1).astype(np.uint8)


def stored(data: bytes, side: int, channels: int = 3, *, whole: bool = False) -> StoredImage:
    return store(data, image_size=side, channels=channels, max_pixels=10**6, whole=whole)


def grey(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels).convert("L")


@pytest.mark.parametrize("side", SIDES)
def test_photographs_of_any_format_become_jpeg(side: int) -> None:
    pixels = photograph(side + 8)
    opaque = Image.fromarray(pixels).convert("RGBA")
    for data in (
        encoded(pixels, "JPEG", quality=80),
        encoded(grey(pixels), "JPEG"),
        encoded(Image.fromarray(pixels).convert("CMYK"), "JPEG"),
        encoded(pixels),
        encoded(pixels, "BMP"),
        encoded(pixels, "WEBP", quality=80),
        encoded(pixels, "TIFF"),
        encoded(opaque),
    ):
        image = stored(data, side)
        assert format_of(image.data) == "jpeg"
        assert 2 * len(image.data) < side * side * 3
        gap = decode_stored(image.data).astype(float) - image.pixels
        assert np.sqrt(np.square(gap).mean()) < 5


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("draw", [drawing, text, ramp, lambda side: noise(0, side, 3)])
def test_graphics_and_noise_are_kept_to_the_pixel(draw: Callable[[int], Pixels], side: int) -> None:
    image = stored(encoded(draw(side)), side)
    assert format_of(image.data) == "png"
    assert (decode_stored(image.data) == draw(side)).all()


def test_scans_palettes_and_small_squares_are_kept_to_the_pixel() -> None:
    pixels = photograph(96)
    sixteen = Image.fromarray(np.asarray(grey(pixels)).astype(np.uint16) * 257)
    for data, channels in (
        (encoded(grey(pixels)), 1),
        (encoded(grey(pixels)), 3),
        (encoded(grey(pixels).convert("RGB")), 3),
        (encoded(sixteen), 1),
        (encoded(sixteen), 3),
        (encoded(Image.fromarray(pixels).quantize(64)), 3),
        (encoded(Image.fromarray(pixels), "GIF"), 3),
        (encoded(pixels), 1),
    ):
        image = stored(data, 96, channels)
        assert format_of(image.data) == "png"
        assert (decode_stored(image.data) == image.pixels).all()
    for kind in ("JPEG", "PNG"):
        assert format_of(stored(encoded(pixels, kind), 95).data) == "png"
        assert format_of(stored(encoded(pixels, kind), 97).data) == "png"


def test_a_grey_photograph_has_one_channel() -> None:
    image = stored(encoded(grey(photograph(100)), "JPEG"), 96, channels=1)
    assert format_of(image.data) == "jpeg"
    assert decode_stored(image.data).shape == (96, 96, 1)


def test_a_jpeg_is_plain_and_its_colours_are_whole() -> None:
    pixels = photograph(96)
    data = encode_jpeg(pixels)
    with Image.open(io.BytesIO(data)) as image:
        assert not image.info.get("progressive")
        assert {component[1:3] for component in image.layer} == {(1, 1)}  # type: ignore[attr-defined]
    assert is_whole(data)
    assert zlib.crc32(data[15:]).to_bytes(4) == data[11:15]


def test_noise_as_a_jpeg_is_more_than_its_own_tables_can_be_made_for() -> None:
    pixels = noise(0, 256, 3)
    image = stored(encoded(pixels, "JPEG", quality=100, subsampling=0), 256)
    again = stored(encoded(np.pad(pixels, ((4, 4), (4, 4), (0, 0))), "JPEG"), 256)
    assert format_of(image.data) == format_of(again.data) == "jpeg"
    assert is_whole(encode_jpeg(pixels))
    gap = decode_stored(encode_jpeg(pixels)).astype(float) - pixels
    assert np.abs(gap).mean() < 8


def test_the_same_pixels_have_the_same_bytes_in_every_process() -> None:
    files = [encoded(photograph(100, seed), kind) for seed in range(3) for kind in ("JPEG", "PNG")]
    there = decode_images(files, image_size=96, channels=3, max_pixels=10**6, encode=True)
    here = [stored(data, 96).data for data in files]
    assert [image.data for image in there if isinstance(image, StoredImage)] == here
    assert len({format_of(data) for data in here}) == 1


def test_pngs_have_the_same_bytes_for_ever() -> None:
    data = encode_png(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    assert sha256(data).hexdigest().startswith("587c61c1c86f3d70")


def test_what_lies_around_a_whole_photograph_hardly_reaches_into_it() -> None:
    for seed in range(4):
        data = encoded(photograph(224, seed)[:160], "JPEG", quality=95)
        image = stored(data, 96, whole=True)
        assert format_of(image.data) == "jpeg"
        left, top, right, bottom = place_of(224, 160, 96)
        gap = np.abs(decode_stored(image.data).astype(float) - image.pixels)
        inside = gap[top:bottom, left:right]
        edge = np.concatenate([inside[:8], inside[-8:]])
        assert edge.mean() < 1.3 * inside[8:-8].mean()
        assert gap[:top].mean() < 1
        assert gap[:top].max() < 24
