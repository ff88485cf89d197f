"""What a source holds is counted right."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from pipeline.data.preparation.inspection import inspect_source, is_photographic
from pipeline.data.sources import Row, open_source
from pipeline.errors import SourceError
from tests.data.helpers import CLASSIFICATION, ListSource, encoded, noise, photo


def grey_rgb(seed: int) -> bytes:
    return encoded(Image.fromarray(noise(seed, 20)[:, :, 0]).convert("RGB"))


def test_everything_is_counted() -> None:
    copy = encoded(noise(0, 10))
    rows = [
        Row("a", copy, 0),
        Row("b", encoded(photo(40, 24)), 0),
        Row("c", encoded(photo(40, 24).convert("P")), 1),
        Row("d", copy, 1),
        Row("e", copy),
        Row("f", grey_rgb(1), 1, "validation"),
        Row("g", encoded(noise(3, 64)), 1, "test"),
        Row("h", b"", 1),
        Row("i", b"", None, None, "unreadable: no"),
    ]
    found = inspect_source(ListSource(rows), CLASSIFICATION)
    assert dict(found.labeled) == {"cat": 2, "dog": 3}  # what can't be used is none of either
    assert dict(found.test) == {"dog": 1}
    assert (found.unlabeled, found.validation, found.images) == (1, 1, 7)
    assert found.bad == [("h", "empty"), ("i", "unreadable: no")]
    assert (found.duplicates, found.conflicts) == (2, 2)
    assert sorted(found.sides) == [10, 10, 10, 20, 24, 24, 64]
    assert found.median_side == 20
    assert dict(found.modes) == {"L": 4, "RGB": 2, "P": 1}
    assert found.coloured == 2
    assert (found.smallest, found.imbalance) == (2, 1.5)
    assert found.bad_fraction == pytest.approx(2 / 9)


def test_of_many_images_an_even_sample_is_decoded_and_all_are_counted() -> None:
    rows = [Row(str(n), encoded(noise(n)), n % 2) for n in range(200)]
    rows[100] = Row("100", b"bad", 0)  # 100 is among every fourth, 101 is not
    rows[101] = Row("101", b"bad too", 0)
    found = inspect_source(ListSource(rows), CLASSIFICATION, sample=50)
    assert found.decoded == 50
    assert [name for name, _ in found.bad] == ["100"]
    assert found.labeled.total() == 199


def test_shades_of_grey_are_told_from_black_on_white() -> None:
    shades = np.tile(np.linspace(20, 230, 32, dtype=np.uint8)[:, None], (32, 1, 3))
    shades = np.repeat(shades[:, :1], 32, axis=1).reshape(32, 32, 3)
    assert is_photographic(shades)
    drawing = np.full((32, 32, 3), 255, np.uint8)
    drawing[10:14] = 0
    assert not is_photographic(drawing)
    shades[:8] = 0  # a quarter is not few
    assert not is_photographic(shades)
    shades[7] = 100
    assert is_photographic(shades)


def test_real_photographs_in_grey_are_told_from_digits() -> None:
    digits = inspect_source(open_source("digits", None, seed=0), CLASSIFICATION, 200)
    assert digits.photographic <= 0.1 * digits.decoded
    photographs = [Image.fromarray(image).convert("L") for image in load_sample_images().images]
    rows = [Row(str(n), encoded(image), n) for n, image in enumerate(photographs)]
    found = inspect_source(ListSource(rows), CLASSIFICATION)
    assert (found.photographic, found.coloured) == (len(rows), 0)


def test_no_usable_image_is_an_error() -> None:
    with pytest.raises(SourceError, match=r"no usable image among 1 \(x: empty"):
        inspect_source(ListSource([Row("x", b"", 0)]), CLASSIFICATION)


def test_a_class_without_a_label_to_learn_from_is_refused() -> None:
    with pytest.raises(SourceError, match="no labelled training image of 'dog'"):
        inspect_source(
            ListSource([Row("a", encoded(noise(1)), 0), Row("b", encoded(noise(2)), 1, "test")]),
            CLASSIFICATION,
        )
