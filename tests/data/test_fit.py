"""How images lie in the square, and the way back."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.fit import ORIENTATION_TAG, ORIENTATIONS, own_pixels, place_of, upright
from pipeline.data.images import decode, store
from tests.data.helpers import encoded, photo

FORM: dict[str, Any] = {"image_size": 16, "channels": 3, "max_pixels": 10**6}


def turned_file(image: Image.Image, turn: int) -> bytes:
    """A file whose EXIF says that it is to be turned."""
    exif, out = Image.Exif(), io.BytesIO()
    exif[ORIENTATION_TAG] = turn
    image.save(out, "PNG", exif=exif)
    return out.getvalue()


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(8, 256))
def test_the_place_is_in_the_square_and_in_its_middle(width: int, height: int, side: int) -> None:
    left, top, right, bottom = place_of(width, height, side)
    assert max(right - left, bottom - top) == side
    assert 0 <= left < right <= side
    assert 0 <= top < bottom <= side
    assert (side - right) - left in (0, 1)
    assert (side - bottom) - top in (0, 1)
    longer = max(width, height)
    assert abs((right - left) - max(1, side * width / longer)) <= 0.5
    assert place_of(height, width, side) == (top, left, bottom, right)


def test_a_whole_image_is_shrunk_and_the_rest_is_black() -> None:
    whole = decode(encoded(photo(40, 24)), **FORM, whole=True)
    left, top, right, bottom = place_of(40, 24, 16)
    assert (left, top, right, bottom) == (0, 3, 16, 13)
    assert not whole[:top].any()
    assert not whole[bottom:].any()
    expected = np.asarray(photo(40, 24).resize((16, 10), Image.Resampling.BICUBIC))
    assert np.abs(whole[top:bottom].astype(float) - expected).mean() < 1


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("turn", list(ORIENTATIONS))
def test_a_turned_file_is_the_same_as_the_upright_one(turn: int, whole: bool) -> None:
    size = 41, 26  # an odd rest
    image = photo(*size)
    found = store(turned_file(image, turn), **FORM, whole=whole)
    assert (found.width, found.height) == upright(size, turn)
    assert found.turn == turn
    expected = decode(encoded(image.transpose(ORIENTATIONS[turn])), **FORM, whole=whole)
    assert np.abs(found.pixels.astype(float) - expected).mean() < (1 if whole else 8)


@pytest.mark.parametrize("size", [(300, 200), (7, 90), (16, 16), (1, 400)])
def test_own_pixels_undo_the_fit(size: tuple[int, int]) -> None:
    width, height = size
    square = np.full((64, 64), 9, np.uint8)
    left, top, right, bottom = place_of(width, height, 64)
    square[top:bottom, left:right] = np.arange(bottom - top)[:, None] % 7
    back = own_pixels(square, width, height)
    assert back.shape == (height, width)
    assert 9 not in back
    rows = (np.arange(height) + 0.5) * (bottom - top) / height
    clear = np.abs(rows - rows.round()) > 1e-6  # no pixel is the nearest of two
    assert (back[:, 0] == np.floor(rows) % 7)[clear].all()
