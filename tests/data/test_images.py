from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.encoding import encode_jpeg, encode_png, with_checksum
from pipeline.data.images import BadImageError, decode, decode_stored, store, verify_stored
from tests.data.helpers import Pixels, encoded, noise, photo
from tests.data.hostile_images import huge_png, jpeg_of_scans, tiled_tiff

TILES = {322: 128, 323: 128}  # width and height


def decoded(data: bytes, size: int = 16, channels: int = 3, max_pixels: int = 10**6) -> Pixels:
    return decode(data, image_size=size, channels=channels, max_pixels=max_pixels)


def reference(image: Image.Image, size: int = 16) -> Pixels:
    """Slow and obvious: crop the middle square, then resize it."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.BICUBIC))


def close(one: Pixels, other: Pixels, tolerance: float = 4.0) -> bool:
    return bool(np.abs(one.astype(float) - other).mean() <= tolerance)


def test_a_png_is_cropped_and_shrunk_like_the_reference() -> None:
    assert close(decoded(encoded(photo())), reference(photo()), 1.0)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"])
def test_every_format_gives_the_same_picture(kind: str) -> None:
    assert close(decoded(encoded(photo(200, 120), kind)), reference(photo(200, 120)))


def test_a_large_jpeg_is_decoded_like_its_png() -> None:
    large = photo(1000, 800)
    assert close(decoded(encoded(large, "JPEG", quality=95)), decoded(encoded(large)), 2.0)


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_modes_become_the_same_colours(mode: str) -> None:
    kind = "PNG" if mode in ("P", "RGBA") else "TIFF"
    image = photo().convert("RGB").quantize(256) if mode == "P" else photo()
    if mode == "LAB":
        image = Image.new("LAB", (20, 20), (128, 128, 128))
        assert decoded(encoded(image, kind)).shape == (16, 16, 3)
        return
    assert close(decoded(encoded(image.convert(mode), kind)), reference(photo()), 6.0)


def test_cmyk_jpeg() -> None:
    assert close(decoded(encoded(photo().convert("CMYK"), "JPEG")), reference(photo()), 8.0)


def test_grey_one_bit_and_colour_in_one_channel() -> None:
    grey = photo().convert("L")
    expected = reference(grey)[:, :, None]
    assert close(decoded(encoded(grey), channels=1), expected, 1.0)
    assert close(decoded(encoded(photo()), channels=1), expected, 1.0)
    black = Image.new("1", (20, 20), 0)
    black.paste(1, (10, 0, 20, 20))
    half = decoded(encoded(black), channels=1)[:, :, 0]
    assert half[:, :6].max() == 0
    assert half[:, 10:].min() == 255


def test_grey_fills_three_channels() -> None:
    pixels = decoded(encoded(photo().convert("L")))
    assert (pixels[:, :, 0] == pixels[:, :, 2]).all()


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 16 * 16).astype(np.uint16).reshape(16, 16)
    pixels = decoded(encoded(Image.fromarray(values)), channels=1)[:, :, 0]
    assert np.abs(pixels - values / 257).max() <= 0.51


@pytest.mark.parametrize("size", [(40, 24), (700, 3)])
@pytest.mark.parametrize("mode", ["1", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_large_images_are_converted_by_parts_to_the_same_pixels(
    monkeypatch: pytest.MonkeyPatch, mode: str, size: tuple[int, int]
) -> None:
    image = Image.fromarray(np.arange(size[0] * size[1], dtype=np.uint16).reshape(size[::-1]))
    if mode != "I;16":
        image = photo(*size)
        image.putalpha(photo(*size).convert("L"))
        image = image.convert("RGB").convert(mode) if mode in ("1", "CMYK") else image.convert(mode)
    options = {"transparency": 3} if mode == "P" else {}
    data = encoded(image, "TIFF" if mode == "CMYK" else "PNG", **options)
    whole = decoded(data)
    monkeypatch.setattr("pipeline.data.images.CONVERTED", 100)
    assert (decoded(data) == whole).all()


def test_tiles_a_little_larger_than_the_image_are_read() -> None:
    assert decoded(encoded(photo(), "TIFF", compression="tiff_lzw", tiffinfo=TILES)).shape
    assert decoded(jpeg_of_scans(80)).shape == (16, 16, 3)


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    assert decoded(encoded(clear)).min() == 255
    palette = Image.new("P", (20, 20), 0)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    assert decoded(encoded(palette, transparency=0)).min() == 255
    assert decoded(encoded(Image.new("LA", (20, 20), (0, 0))), channels=1).min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_rotation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    upright = photo(16, 16)
    turned = upright if undo is None else upright.transpose(Image.Transpose(undo))
    assert close(decoded(encoded(turned, kind, exif=exif)), np.asarray(upright), 6.0)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_counts(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    options = {"save_all": True, "append_images": frames[1:]}
    stored = store(encoded(frames[0], kind, **options), image_size=16, channels=3, max_pixels=10**6)
    assert stored.animated
    assert close(stored.pixels, np.asarray(frames[0]))
    assert (decode_stored(stored.data) == stored.pixels).all()


@pytest.mark.parametrize("size", [(1, 1), (2000, 10), (10, 2000), (3, 17)])
def test_odd_shapes_become_squares(size: tuple[int, int]) -> None:
    assert decoded(encoded(photo(*size))).shape == (16, 16, 3)


def test_enlarging_makes_no_new_extremes() -> None:
    pixels = decoded(encoded(noise(0, 8) // 2 + 50), channels=1)
    assert 50 <= pixels.min() <= pixels.max() <= 177


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"Dear reader, I am no picture.\n" * 20, "not an image"),
        (encoded(photo(), "JPEG")[:400], "truncated"),
        (encoded(noise(1, 64, 3))[:3000], "truncated"),
        (huge_png(2000, 1000), "too many pixels: 2000x1000"),
        (huge_png(9_000, 9_000), "too many pixels: 9000x9000"),
        (huge_png(50_000, 50_000), "too many pixels"),
        (huge_png(1, 5_000_000), "too many pixels: 1x5000000"),
        (tiled_tiff(1024), "too many pixels: 64x64 in tiles of 1024x1024"),
        (jpeg_of_scans(100), "a JPEG of more than 100 scans"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
def test_bad_bytes_have_a_short_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImageError, match=f"^{reason}"):
        decoded(data)


def test_a_jpeg_of_the_stored_form_is_kept() -> None:
    for data, channels in [
        (encoded(photo(16, 16).convert("L"), "JPEG"), 1),
        (encoded(photo(16, 16), "JPEG"), 3),
        (encoded(photo(16, 16), "JPEG", progressive=True, subsampling=0), 3),
    ]:
        kept = store(data, image_size=16, channels=channels, max_pixels=10**6)
        assert kept.data == with_checksum(data)
        assert (decode_stored(kept.data) == kept.pixels).all()
        other = store(data, image_size=16, channels=4 - channels, max_pixels=10**6)
        assert other.data != data
        assert (decode_stored(other.data) == other.pixels).all()


def test_bytes_with_more_than_pixels_are_written_again() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    cases = [
        encoded(photo(16, 16), "JPEG", exif=exif),
        encoded(photo(16, 16), "JPEG") + b"x" * 10_000,
        encoded(photo(16, 16).convert("RGB"), transparency=(0, 0, 60)),
        encoded(photo(16, 16), "BMP"),
    ]
    for data in cases:
        stored = store(data, image_size=16, channels=3, max_pixels=10**6)
        assert stored.data != data
        assert (decode_stored(stored.data) == stored.pixels).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 3), (7, 1, 1), (4, 9, 3), (16, 16, 3)])
def test_what_is_written_is_read_back_and_damage_found_out(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    whole = encode_png(pixels)
    verify_stored(whole)
    assert (decode_stored(whole) == pixels).all()
    for at in range(len(whole) - 12):  # what stands after the pixels may be damaged
        with pytest.raises(BadImageError):
            verify_stored(with_flipped_bit(whole, at))


@pytest.mark.parametrize("channels", [1, 3])
def test_damage_to_a_stored_jpeg_is_found_out(channels: int) -> None:
    own = encoded(photo(16, 16).convert("L" if channels == 1 else "RGB"), "JPEG")
    for whole in (encode_jpeg(noise(4, 16, channels)), with_checksum(own)):
        verify_stored(whole)
        assert decode_stored(whole).shape == (16, 16, channels)
        for damaged in [with_flipped_bit(whole, at) for at in range(len(whole))] + [whole[:-1]]:
            with pytest.raises(BadImageError, match="not the bytes that were stored"):
                verify_stored(damaged)


def with_flipped_bit(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"]),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=12),
    cut=st.integers(0, 60),
)
def test_hostile_bytes_give_an_image_or_a_reason(
    kind: str, edits: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(encoded(photo(16, 16), kind))
    for place, value in edits:
        data[place % len(data)] = value
    try:
        pixels = decoded(bytes(data[: len(data) - cut]))
    except BadImageError as error:
        reason = str(error)
    else:
        reason = f"{pixels.shape} {pixels.dtype}"
    assert reason == "(16, 16, 3) uint8" or not reason.startswith("(")
    assert 0 < len(reason) <= 130


def test_scans_of_fewer_bits_use_all_levels() -> None:
    scan = (np.arange(64, dtype=np.uint16).reshape(8, 8) * 65).clip(max=4095)
    seen = scaled(scan, 12)
    assert (seen == np.round(scan * (255 / 4095))).all()
    assert scaled(scan, 16).max() == 16
    scan[0, 0] = 5000
    assert scaled(scan, 12)[0, 0] == 255


def scaled(scan: NDArray[np.uint16], bits: int) -> Pixels:
    """The grey levels (8, 8) of a scan."""
    data = encoded(Image.fromarray(scan))
    return decode(data, image_size=8, channels=1, max_pixels=64, bits=bits)[:, :, 0]
