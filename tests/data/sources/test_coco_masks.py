"""Polygons and runs of COCO's annotations, drawn as pycocotools does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as reference

from pipeline.data.images import decode_stored
from pipeline.data.masks import IGNORED
from pipeline.data.sources.coco_masks import rasterized
from tests.data.sources.test_coco import HEIGHT, INNER, SQUARE, WIDTH


def mask(*annotations: tuple[int | None, Any]) -> Any:
    return decode_stored(rasterized((HEIGHT, WIDTH), annotations))[:, :, 0]


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize("form", ["polygon", "text", "numbers"])
def test_a_mask_is_what_pycocotools_draws(form: str) -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        polygon = generator.uniform(-3, 18, 2 * generator.integers(3, 9)).tolist()
        packed = reference.frPyObjects([polygon], HEIGHT, WIDTH)[0]
        expected = reference.decode(packed)
        if not expected.any():
            continue  # all of it lies outside
        runs = np.diff(np.flatnonzero(np.diff(expected.T.ravel(), prepend=0, append=2)), prepend=0)
        drawing: dict[str, Any] = {
            "polygon": [polygon],
            "text": packed | {"counts": packed["counts"].decode()},
            "numbers": {"size": [HEIGHT, WIDTH], "counts": runs.tolist()},
        }
        assert (mask((5, drawing[form])) == 5 * expected).all()


def test_long_runs_are_unpacked() -> None:
    whole = np.zeros((900, 1100), np.uint8, order="F")
    whole[100:800, 3:1000] = 1
    packed = reference.encode(whole)
    drawing = {"size": [900, 1100], "counts": packed["counts"].decode()}
    assert (decode_stored(rasterized((900, 1100), [(1, drawing)]))[:, :, 0] == whole).all()


def test_smaller_annotations_lie_above_larger_ones_and_crowds_below_all() -> None:
    for order in (1, -1):
        pairs: list[tuple[int | None, Any]] = [(1, SQUARE), (2, INNER)]
        found = mask(*pairs[::order])
        assert [found[0, 0], found[3, 3], found[5, 5]] == [0, 1, 2]
    found = mask((1, INNER), (None, SQUARE))
    assert [found[0, 0], found[3, 3], found[5, 5]] == [0, IGNORED, 1]


def test_the_whole_area_of_an_annotation_counts() -> None:
    outer, inner = [[0, 0, 16, 0, 16, 12, 0, 12], [5, 5, 6, 5, 6, 6, 5, 6]], SQUARE
    for order in (1, -1):
        pairs: list[tuple[int | None, Any]] = [(1, outer), (2, inner)]
        assert mask(*pairs[::order])[5, 5] == 2


@pytest.mark.parametrize(
    "parts",
    [
        [*SQUARE, [-9, 2, -2, 2, -2, 9]],
        [*SQUARE, [5.1, 5.1, 5.2, 5.1, 5.2, 5.2]],
        [[-8, 2, 8, 2, 8, 8, -8, 8]],
    ],
)
def test_what_lies_outside_of_the_image_is_cut_off(parts: Any) -> None:
    assert mask((1, parts))[5, 5] == 1
    thin = [[5.1, 5.1, 5.2, 5.1, 5.2, 5.2]]
    assert not mask((1, thin)).any()  # not a problem: it lies inside


@pytest.mark.parametrize(
    ("side", "reason"),
    [(0, "no sizes"), (1 << 60, "no sizes"), (50_000_000, "over"), ("9", "no sizes")],
)
def test_sizes_are_checked_before_anything_is_made(side: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        rasterized((side, side), [(1, SQUARE)])
