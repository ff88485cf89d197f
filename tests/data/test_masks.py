"""Masks of strangers: what their values mean, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.data.decoding import decode_masks, mask_values
from pipeline.data.fit import ORIENTATIONS, upright
from pipeline.data.masks import COLOUR, IGNORED, MaskOf
from tests.data.helpers import Pixels, encoded
from tests.data.hostile_images import huge_png

WIDTH, HEIGHT, SIDE = 16, 8, 16
VALUES = [(0, 0), (1, 1), (2, 2), (IGNORED, IGNORED)]
CLASSES = np.repeat(np.arange(4, dtype=np.uint8), 4)[None].repeat(HEIGHT, axis=0).clip(max=2)
PALETTE = [200, 0, 0, 0, 200, 0, 0, 0, 200]


def form(**changes: Any) -> dict[str, Any]:
    return {"side": SIDE, "values": VALUES, "others": None, "max_pixels": 10**6} | changes


def square(
    data: bytes, size: tuple[int, int] = (WIDTH, HEIGHT), turn: int = 1, **changes: Any
) -> Any:
    return decode_masks([MaskOf(data, *size, turn)], **form(**changes))[0]


def fitted(classes: Pixels) -> Pixels:
    """Classes (8, 16) in the square."""
    whole = np.full((SIDE, SIDE), IGNORED, np.uint8)
    whole[4:12] = classes
    return whole


def palette_image() -> Image.Image:
    image = Image.fromarray(CLASSES)
    image = image.convert("P")
    image.putdata(CLASSES.ravel().tolist())
    image.putpalette(PALETTE)
    return image


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(CLASSES),
        Image.fromarray(CLASSES.astype(np.uint16)),
        Image.fromarray(np.repeat(CLASSES[:, :, None], 3, axis=2)),
        Image.merge("LA", [Image.fromarray(CLASSES), Image.new("L", (WIDTH, HEIGHT), 9)]),
    ],
    ids=["L", "I;16", "grey RGB", "LA"],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_numbers_are_classes_in_every_mode(image: Image.Image, kind: str) -> None:
    assert (square(encoded(image, kind)) == fitted(CLASSES)).all()


def test_the_index_of_a_palette_counts_not_its_colour() -> None:
    data = encoded(palette_image())
    assert (square(data) == fitted(CLASSES)).all()
    assert mask_values([data], max_pixels=10**6) == [[0, 1, 2]]


@pytest.mark.parametrize(("bits", "most"), [(1, 1), (2, 2), (4, 2)])
def test_few_bits_are_not_scaled(bits: int, most: int) -> None:
    classes = CLASSES.clip(max=most)
    if bits == 1:
        data = encoded(Image.fromarray(classes.astype(bool)))
    else:
        data = few_bits_png(classes, bits)
    assert (square(data) == fitted(classes)).all()


def few_bits_png(classes: Pixels, bits: int, clear: int | None = None) -> bytes:
    """A grey PNG of 2 or 4 bits a pixel, one value of which may be transparent."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    each = 8 // bits
    parts = classes.reshape(len(classes), -1, each)
    shifts = np.arange(each - 1, -1, -1) * bits
    rows = (parts << shifts).sum(axis=2).astype(np.uint8)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", classes.shape[1], len(classes), bits, 0, 0, 0, 0)
    extra = b"" if clear is None else chunk(b"tRNS", struct.pack(">H", clear))
    chunks = (
        chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_colours_are_classes_as_the_source_says_and_transparent_ones_are_ignored() -> None:
    image = palette_image().convert("RGB")
    values = [(COLOUR + (200 << shift), number) for number, shift in enumerate((16, 8, 0))]
    assert (square(encoded(image), values=values) == fitted(CLASSES)).all()
    image.putalpha(Image.fromarray(np.where(CLASSES == 1, 0, 255).astype(np.uint8)))
    expected = np.where(CLASSES == 1, IGNORED, CLASSES)
    assert (square(encoded(image), values=values) == fitted(expected)).all()
    assert square(encoded(image), values=values[1:]) == "mask: value #c80000: no class"


GREY = Image.fromarray(CLASSES)
CLEAR = Image.fromarray(np.where(CLASSES == 1, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("image", "kind", "transparency"),
    [
        (Image.merge("LA", [GREY, CLEAR]), "PNG", None),
        (Image.merge("LA", [GREY, CLEAR]), "TIFF", None),
        (GREY, "PNG", 1),
        (Image.fromarray(CLASSES.astype(np.uint16)), "PNG", 1),
        (Image.fromarray(np.repeat(CLASSES[:, :, None], 3, axis=2)), "PNG", (1, 1, 1)),
        (palette_image(), "PNG", 1),
        (palette_image(), "PNG", bytes([255, 0, 7])),
        (palette_image(), "GIF", 1),
    ],
    ids=["LA", "LA TIFF", "L", "I;16", "RGB", "P", "P of alphas", "GIF"],
)
def test_transparent_pixels_are_ignored_in_every_mode(
    image: Image.Image, kind: str, transparency: Any
) -> None:
    options = {} if transparency is None else {"transparency": transparency}
    data = encoded(image, kind, **options)
    values = [each for each in VALUES if each[0] != 1]
    assert (square(data, values=values) == fitted(np.where(CLASSES == 1, IGNORED, CLASSES))).all()
    (found,) = mask_values([data], max_pixels=10**6)
    assert 1 not in [int(value) & 255 for value in found]


@pytest.mark.parametrize("bits", [2, 4])
def test_transparent_values_of_few_bits_are_not_scaled(bits: int) -> None:
    classes = CLASSES.clip(max=2)
    data = few_bits_png(classes, bits, clear=1)
    assert (square(data) == fitted(np.where(classes == 1, IGNORED, classes))).all()


def test_other_values_are_one_class_where_the_source_says_so() -> None:
    numbers = CLASSES.astype(np.uint16) * 900
    data = encoded(Image.fromarray(numbers))
    assert (square(data, values=[(0, 0)], others=1) == fitted(CLASSES.clip(max=1))).all()


def test_the_nearest_pixel_counts() -> None:
    large = CLASSES.repeat(9, axis=0).repeat(9, axis=1)
    assert (square(encoded(Image.fromarray(large)), (144, 72)) == fitted(CLASSES)).all()


@pytest.mark.parametrize("turn", list(ORIENTATIONS))
def test_a_mask_of_the_file_before_it_was_turned_is_turned_as_well(turn: int) -> None:
    image = Image.fromarray(CLASSES)
    size = upright(image.size, turn)
    upright_mask = image.transpose(ORIENTATIONS[turn])
    expected = square(encoded(upright_mask), upright_mask.size)
    assert (square(encoded(upright_mask), size, turn) == expected).all()
    if size != image.size:  # else it is taken for one of the upright image
        assert (square(encoded(image), size, turn) == expected).all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "mask: empty"),
        (b"no image", "mask: not an image"),
        (encoded(Image.fromarray(CLASSES))[:60], "mask: truncated"),
        (huge_png(16_000, 10_000), "mask: too many pixels: 16000x10000"),
        (encoded(Image.fromarray(CLASSES), "JPEG"), "mask: a JPEG, which does not keep values"),
        (encoded(Image.fromarray(CLASSES[:, :9])), "mask: 9x8, its image is 16x8"),
        (encoded(Image.fromarray(CLASSES.T.copy())), "mask: 8x16, its image is 16x8"),
        (encoded(Image.fromarray(CLASSES + 1)), "mask: value 3: no class"),
        (encoded(Image.fromarray(CLASSES.astype(np.uint16) * 999)), "mask: value 999: no class"),
        (
            encoded(Image.fromarray(CLASSES.astype(np.int32) * 99999), "TIFF"),
            "mask: values of over",
        ),
        (encoded(Image.fromarray(CLASSES.astype(np.float32)), "TIFF"), "mask: of mode F"),
        (encoded(palette_image().convert("RGB")), "mask: value #0000c8: no class"),
    ],
)
def test_what_is_wrong_is_said_and_its_neighbours_are_read(data: bytes, reason: str) -> None:
    good = MaskOf(encoded(Image.fromarray(CLASSES)), WIDTH, HEIGHT)
    first, found, last = decode_masks([good, MaskOf(data, WIDTH, HEIGHT), good], **form())
    assert isinstance(found, str)
    assert found.startswith(reason)
    assert isinstance(first, np.ndarray)
    assert isinstance(last, np.ndarray)


def test_values_that_number_things_are_told_from_classes() -> None:
    numbers = np.arange(64 * 128, dtype=np.uint16).reshape(64, 128)
    (found,) = mask_values([encoded(Image.fromarray(numbers))], max_pixels=10**6)
    assert found == "mask: over 4096 values, so they are no classes"
